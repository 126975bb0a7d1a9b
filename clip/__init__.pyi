from .clip import _MODELS, _download, build_model, load, tokenize
from .weights import WeightsError, available_models

__all__ = [
    "_MODELS",
    "WeightsError",
    "_download",
    "available_models",
    "build_model",
    "load",
    "tokenize",
]
