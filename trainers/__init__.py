"""Prompt learners for CLIP, plain and refined; importing this package registers their trainers.

A file that is dropped into this folder is imported with the others.
"""

from importlib import import_module
from pkgutil import iter_modules

from .settings import extend_cfg

__all__ = ["extend_cfg"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
