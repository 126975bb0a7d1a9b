"""Merge YAML files and KEY VALUE pairs into a config."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ..utils.errors import UsageError, nearest
from ..utils.tools import PathLike
from .literal import decode
from .yaml_file import read_yaml

BASE = "_BASE_"


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Remove the settings of all trainers but `trainer`, for a shorter printed config."""
    for key in list(cfg.TRAINER):
        if key not in ("NAME", trainer.upper()):
            cfg.TRAINER.pop(key)


def merge_file(cfg: CfgNode, path: PathLike) -> None:
    """Merge a YAML file, after the file named by its `_BASE_: relative/path.yaml`, if any.

    Raises:
        UsageError: a file is missing or not YAML, a key is unknown, a value has the wrong type, or
            the bases form a cycle.
    """
    for file, values in with_bases(path):
        _merge(cfg, values, f"in {file}")


def merge_opts(cfg: CfgNode, opts: Sequence[Any]) -> None:
    """Merge ["KEY.SUBKEY", value, ...] from the end of a command line.

    Raises:
        UsageError: a value is missing, a key is unknown, or a value has the wrong type.
    """
    if len(opts) % 2:
        raise UsageError(f"settings must be KEY VALUE pairs, got {len(opts)} words: {list(opts)}")
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        *sections, leaf = str(key).split(".")
        values: dict[str, Any] = {leaf: value}
        for section in reversed(sections):
            values = {section: values}
        _merge(cfg, values, "on the command line")


def with_bases(
    path: PathLike, seen: tuple[Path, ...] = ()
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield (file, values) of a YAML file and of its `_BASE_` files, bases first.

    `seen` are the files that lead to it, to detect a cycle.

    Raises:
        UsageError: a file is missing or not YAML, or the bases form a cycle.
    """
    path = Path(path)
    if "\0" in str(path):
        raise UsageError(f"the name of a config file contains a NUL character: {str(path)!r}")
    if path.resolve() in seen:
        raise UsageError(f"{str(path)!r} is its own {BASE}, through {[str(p) for p in seen]}")
    values = _read_yaml(path)
    base = values.pop(BASE, None)
    if base is not None:
        yield from with_bases(path.parent / str(base), (*seen, path.resolve()))
    yield path, values


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = read_yaml(path)
    except IsADirectoryError:
        raise UsageError(f"{str(path)!r} is a folder, but should be a YAML file") from None
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"no config file at {str(path)!r}{_suggest_files(path)}") from None
    except OSError as error:
        raise UsageError(f"cannot read the config file {str(path)!r}: {error.strerror}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{str(path)!r} must have KEY: value lines, got {_type_name(values)}")
    return values


def _suggest_files(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {str(path.parent)!r} does not exist"
    files = [file.stem for file in path.parent.glob("*.yaml")]
    return f": {nearest(path.stem, files)}"


def _merge(node: CfgNode, values: dict[str, Any], where: str, prefix: str = "") -> None:
    """Set known keys of `node`; an empty section changes nothing."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if key not in node:
            if not node.is_new_allowed():
                raise UsageError(f"unknown setting {path!r} {where}: {nearest(str(key), node)}")
            node[key] = CfgNode(value) if isinstance(value, dict) else decode(value)
        elif not isinstance(node[key], CfgNode):
            node[key] = _convert(node[key], value, path, where)
        elif value is not None:
            if not isinstance(value, dict):
                raise UsageError(f"{path!r} is a section of settings, got {value!r} {where}")
            _merge(node[key], value, where, f"{path}.")


def _convert(default: Any, value: Any, key: str, where: str) -> Any:
    """Return `value` in the type of `default`, by yacs' rules; an int is accepted for a float."""
    if isinstance(value, dict):
        below = ", ".join(f"{key}.{name}" for name in value)
        raise UsageError(f"unknown setting {below!r} {where}: {key!r} is not a section")
    value = decode(value)
    kind = type(default)
    if type(value) is kind or default is None:
        return value
    if (kind, type(value)) in {(float, int), (list, tuple), (tuple, list)}:
        return kind(value)
    raise UsageError(
        f"{key!r} must be {_type_name(default)} such as {default!r}, "
        f"got {'None' if value is None else f'{value!r} ({_type_name(value)})'} {where}"
    )


def _type_name(value: Any) -> str:
    name = type(value).__name__
    known = {"str": "a string", "int": "an integer", "float": "a number", "bool": "a boolean"}
    return known.get(name, f"a {name}")
