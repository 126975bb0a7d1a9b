"""Names that the original's modules have, and that are defined elsewhere here."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def names_elsewhere(module: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module, which imports names from other modules at first use.

    ``places`` is name -> module.
    """

    def __getattr__(name: str) -> Any:  # it becomes the module's
        if name not in places:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(import_module(places[name]), name)

    return __getattr__
