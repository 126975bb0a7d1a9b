"""Prompt learners for CLIP with and without TextRefiner.

Importing this package imports every module in this folder, which registers the trainers.
"""

from importlib import import_module
from pkgutil import iter_modules

from dassl.engine import TRAINER_REGISTRY

from .settings import extend_cfg

__all__ = ["extend_cfg"]

# The modules with this project's trainers; files that are added to the folder come after them.
OWN = (
    *("atprompt", "clip_adapter", "cocoop", "coop", "kgcoop", "maple", "mmrl", "promptkd"),
    *("promptsrc", "taskres", "tcp", "zsclip"),
)

if hasattr(TRAINER_REGISTRY, "import_files"):  # the original Dassl's registry has no such method
    TRAINER_REGISTRY.import_files(__name__, __path__, first=OWN)
else:
    for _module in iter_modules(__path__):
        import_module(f"{__name__}.{_module.name}")
