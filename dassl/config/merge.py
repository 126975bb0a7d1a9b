"""Merge YAML files and KEY VALUE pairs into a config, with errors that name the nearest keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from ..utils.errors import UsageError, nearest
from ..utils.tools import PathLike

# The safe loader, ten times as fast where PyYAML was built with libyaml.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
BASE = "_BASE_"


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Remove the settings of all trainers but `trainer`, so that a printed config is short."""
    for key in list(cfg.TRAINER):
        if key not in ("NAME", trainer.upper()):
            cfg.TRAINER.pop(key)


def merge_file(cfg: CfgNode, path: PathLike) -> None:
    """Merge a YAML file, after the one that its `_BASE_: relative/path.yaml` names, if any.

    Raises:
        UsageError: a file is missing or not YAML, a key is unknown, a value has the wrong type, or
            the bases form a circle.
    """
    for file, values in with_bases(path):
        _merge(cfg, values, f"in {file}")


def merge_opts(cfg: CfgNode, opts: Sequence[Any]) -> None:
    """Merge ["KEY.SUBKEY", value, ...], as the end of a command line gives them.

    Raises:
        UsageError: a value is missing, a key is unknown, or a value has the wrong type.
    """
    if len(opts) % 2:
        raise UsageError(f"settings come as KEY VALUE pairs, got {len(opts)} words: {list(opts)}")
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        *sections, leaf = str(key).split(".")
        values: dict[str, Any] = {leaf: value}
        for section in reversed(sections):
            values = {section: values}
        _merge(cfg, values, "on the command line")


def with_bases(
    path: PathLike, seen: tuple[Path, ...] = ()
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield (file, its values) of a YAML file and of those that `_BASE_` names, bases first.

    Args:
        path: the file.
        seen: the files above it, which it must not name.

    Raises:
        UsageError: a file is missing or not YAML, or the bases form a circle.
    """
    path = Path(path)
    if path.resolve() in seen:
        raise UsageError(f"{str(path)!r} is its own {BASE}, by way of {[str(p) for p in seen]}")
    values = _read_yaml(path)
    base = values.pop(BASE, None)
    if base is not None:
        yield from with_bases(path.parent / str(base), (*seen, path.resolve()))
    yield path, values


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"no config file at {str(path)!r}{_beside(path)}") from None
    except OSError as error:
        raise UsageError(f"cannot read the config file {str(path)!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{str(path)!r} is not a YAML file: it is no UTF-8 text") from error
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise UsageError(f"{str(path)!r} is not valid YAML: {told}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{str(path)!r} must hold KEY: value lines, got a {_type_name(values)}")
    return values


def _beside(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {str(path.parent)!r} does not exist"
    files = [file.stem for file in path.parent.glob("*.yaml")]
    return f": {nearest(path.stem, files)}"


def _merge(node: CfgNode, values: dict[str, Any], where: str, above: tuple[str, ...] = ()) -> None:
    """Set known keys of `node`; an empty section sets nothing."""
    for key, value in values.items():
        path = (*above, str(key))
        if key not in node:
            if not node.is_new_allowed():
                raise UsageError(
                    f"unknown setting {'.'.join(path)!r} {where}: {nearest(str(key), node)}"
                )
            node[key] = CfgNode._decode_cfg_value(value)
        elif not isinstance(node[key], CfgNode):
            node[key] = _fit(node[key], value, path, where)
        elif value is not None:
            if not isinstance(value, dict):
                raise UsageError(
                    f"{'.'.join(path)!r} is a section of settings, got {value!r} {where}"
                )
            _merge(node[key], value, where, path)


def _fit(default: Any, value: Any, path: tuple[str, ...], where: str) -> Any:
    """Return `value` in the type of `default`, by yacs' rules and one more: 1 is a number, too."""
    key = ".".join(path)
    if isinstance(value, dict):
        below = ", ".join(f"{key}.{name}" for name in value)
        raise UsageError(f"unknown setting {below!r} {where}: {key!r} has no settings below")
    value = CfgNode._decode_cfg_value(value)
    kind = type(default)
    if type(value) is kind or default is None:
        return value
    if (kind, type(value)) in {(float, int), (list, tuple), (tuple, list)}:
        return kind(value)
    raise UsageError(
        f"{key!r} takes a {_type_name(default)} such as {default!r}, "
        f"got {'None' if value is None else f'{value!r} (a {_type_name(value)})'} {where}"
    )


def _type_name(value: Any) -> str:
    return {"str": "text", "int": "whole number", "float": "number", "bool": "True or False"}.get(
        type(value).__name__, type(value).__name__
    )
