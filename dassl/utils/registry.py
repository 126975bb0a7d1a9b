"""A table of named classes and functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import UsageError, nearest


class Registry:
    """Maps names to the classes or functions registered under them.

    Example:
        >>> TRAINER_REGISTRY = Registry("TRAINER")
        >>> @TRAINER_REGISTRY.register()
        ... class CoOp: ...
        >>> TRAINER_REGISTRY.get("CoOp")
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._obj_map: dict[str, Any] = {}

    def register(self, obj: Any = None, force: bool = False, name: str | None = None) -> Any:
        """Register `obj` under `name` (default: its own name), or return a decorator that does.

        Raises:
            KeyError: the name is taken and `force` is not set.
        """
        if obj is None:
            return self._decorator(force, name)
        key = obj.__name__ if name is None else name
        if key in self._obj_map and not force:
            raise KeyError(f"{key!r} is already registered in the {self._name} registry")
        self._obj_map[key] = obj
        return obj

    def _decorator(self, force: bool, name: str | None) -> Callable[[Any], Any]:
        return lambda obj: self.register(obj, force=force, name=name)

    def get(self, name: str) -> Any:
        """Return what is registered as `name`; UsageError with the nearest names otherwise."""
        if name not in self._obj_map:
            raise UsageError(
                f"no {self._name.lower()} is registered as {name!r}: {nearest(name, self._obj_map)}"
            )
        return self._obj_map[name]

    def registered_names(self) -> list[str]:
        """Names in the order of their registration."""
        return list(self._obj_map)
