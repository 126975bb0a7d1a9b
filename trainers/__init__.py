"""Prompt learners for CLIP with and without TextRefiner.

Importing this package imports every module in this folder, which registers the trainers.
"""

from importlib import import_module
from pkgutil import iter_modules

from .settings import extend_cfg

__all__ = ["extend_cfg"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
