"""Datasets, one file each; importing this package registers them all.

A file that is dropped into this folder is imported with the others: a new dataset needs no line
anywhere else.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    if not _module.ispkg and _module.name != "__main__":
        import_module(f"{__name__}.{_module.name}")
