"""The original's layers and losses for domain generalization, which are out of scope."""

from . import refuse_names

__getattr__ = refuse_names(__name__)
