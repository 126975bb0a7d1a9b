"""CLIP behind OpenAI's interface: ``import clip`` or ``from clip import clip``."""

from .clip import _MODELS, _download, available_models, build_model, load, tokenize
from .weights import WeightsError

__all__ = [
    "_MODELS",
    "WeightsError",
    "_download",
    "available_models",
    "build_model",
    "load",
    "tokenize",
]
