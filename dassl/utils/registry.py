"""A registry of named classes and functions."""

from typing import Any

from .errors import UsageError, nearest


class Registry:
    """Mapping from names to registered classes or functions."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._obj_map: dict[str, Any] = {}

    def register(self, obj: Any = None, force: bool = False, name: str | None = None) -> Any:
        """Register `obj` as `name` (default: its __name__); without `obj`, return a decorator.

        A name that is taken raises a KeyError, unless `force` is set.
        """
        if obj is None:
            return lambda obj: self.register(obj, force=force, name=name)
        key = obj.__name__ if name is None else name
        if key in self._obj_map and not force:
            raise KeyError(f"{key!r} is already registered in the {self._name} registry")
        self._obj_map[key] = obj
        return obj

    def get(self, name: str) -> Any:
        """Return the object registered as `name`; raise a UsageError if there is none."""
        if name not in self._obj_map:
            raise UsageError(
                f"no {self._name.lower()} is registered as {name!r}: {nearest(name, self._obj_map)}"
            )
        return self._obj_map[name]

    def registered_names(self) -> list[str]:
        """Return the names in the order of registration."""
        return list(self._obj_map)
