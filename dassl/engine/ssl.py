"""The original's trainers for semi-supervised learning, which are out of scope."""

from ..modeling import refuse_names

__getattr__ = refuse_names(__name__)
