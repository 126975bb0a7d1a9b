"""A registry of named classes and functions, and the files that register them."""

import re
import sys
from collections.abc import Collection, Iterable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, NamedTuple

from .errors import UsageError, nearest


class RegisteredTwiceError(KeyError):
    """A name that is registered already."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError quotes it


class LeftOut(NamedTuple):
    """A file that could not be imported, such as "trainers/dept.py", its text, and why."""

    file: str
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file} is left out: {self.reason}"


class Registry:
    """Mapping from names to registered classes or functions.

    ``left_out`` are the files that `import_files` could not import.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._obj_map: dict[str, Any] = {}
        self.left_out: list[LeftOut] = []

    def register(self, obj: Any = None, force: bool = False, name: str | None = None) -> Any:
        """Register `obj` as `name` (default: its __name__); without `obj`, return a decorator.

        A name that is taken raises a KeyError, unless `force` is set.
        """
        if obj is None:
            return lambda obj: self.register(obj, force=force, name=name)
        key = obj.__name__ if name is None else name
        if key in self._obj_map and not force:
            raise RegisteredTwiceError(
                f"{key!r} is already registered in the {self._name} registry, by "
                f"{getattr(self._obj_map[key], '__module__', 'another module')}"
            )
        self._obj_map[key] = obj
        return obj

    def get(self, name: str) -> Any:
        """Return the object registered as `name`; raise a UsageError if there is none."""
        if name not in self._obj_map:
            self.check_left_out(name)
            raise UsageError(
                f"no {self._name.lower()} is registered as {name!r}: {nearest(name, self._obj_map)}"
            )
        return self._obj_map[name]

    def registered_names(self) -> list[str]:
        """Return the names in the order of registration."""
        return list(self._obj_map)

    def check_left_out(self, name: str) -> None:
        """Raise a UsageError if a file that defines ``name`` could not be imported."""
        for left in self.left_out:
            if re.search(rf"^\s*(class|def)\s+{re.escape(name)}\b", left.text, re.MULTILINE):
                raise UsageError(f"{self._name.lower()} {name!r} is not available: {left}")

    def _forget_failed(self, prefix: str) -> None:
        """Remove what modules that begin with ``prefix`` have registered before they failed."""
        modules = {key: getattr(obj, "__module__", "") for key, obj in self._obj_map.items()}
        for key, module in modules.items():
            if module.startswith(prefix) and module not in sys.modules:
                del self._obj_map[key]

    def import_files(
        self,
        package: str,
        path: Iterable[str],
        first: Collection[str] = (),
        skip: Collection[str] = (),
    ) -> None:
        """Import the modules of a package, which register what they define.

        A module that cannot be imported is left out, with the names that it has registered, so
        that a file that a user adds to the folder disturbs nothing else.

        Args:
            first: modules that are imported before the others, so that no other takes their names.
            skip: modules that register nothing.
        """
        found = {module.name: module.module_finder for module in iter_modules(path)}
        for name in sorted(found.keys() - set(skip), key=lambda name: (name not in first, name)):
            try:
                import_module(f"{package}.{name}")
            except Exception as error:  # a file of a user can raise any
                self._forget_failed(f"{package}.")
                self.left_out.append(_left_out(package, name, found[name], error))


def _left_out(package: str, name: str, finder: Any, error: Exception) -> LeftOut:
    folder = Path(finder.path)
    is_file = (folder / f"{name}.py").is_file()
    file = f"{name}.py" if is_file else f"{name}/__init__.py"
    return LeftOut(
        f"{package}/{file}",
        (folder / file).read_text(encoding="utf-8", errors="replace"),
        _reason(error),
    )


def _reason(error: Exception) -> str:
    """Return why a file cannot be imported, and what to do."""
    if isinstance(error, RegisteredTwiceError):
        return f"{error}; rename one of the two"
    text = (str(error).splitlines() or [""])[0][:200]
    described = f"importing it raises {type(error).__name__} ({text})"
    missing = (error.name or "") if isinstance(error, ImportError) else ""
    if missing.partition(".")[0] == "clip":
        return (
            f"{described}, so it needs the changed clip/ of its repository: start that "
            'repository\'s train.py instead, as "Repositories that change CLIP" in '
            "docs/coop_users.md shows"
        )
    if missing.partition(".")[0] == "dassl":
        return f"{described}; docs/coop_users.md lists the names that this dassl has"
    if isinstance(error, ModuleNotFoundError):
        return f"{described}; install what it imports, or add the missing file"
    return f"{described}; correct the file, or remove it"
