"""The original's trainers for domain generalization, which are out of scope."""

from ..modeling import refuse_names

__getattr__ = refuse_names(__name__)
