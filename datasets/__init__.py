"""Datasets, one file each; importing this package registers all of them.

Any file in this folder is imported, so a new dataset needs no other change.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    if not _module.ispkg and _module.name != "__main__":
        import_module(f"{__name__}.{_module.name}")
