"""Read YAML configs and KEY VALUE pairs as flat tables, and compare them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..utils.errors import UsageError
from .literal import decode
from .merge import with_bases


def read_config(path: Path) -> dict[str, Any]:
    """Return a YAML file, merged over its ``_BASE_``, as {"OPTIM.MAX_EPOCH": 10, ...}."""
    return {key: decode(value) for _, tree in with_bases(path) for key, value in flatten(tree)}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested tables, such as ("OPTIM.MAX_EPOCH", 10)."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def parse_pairs(words: Sequence[str]) -> dict[str, str]:
    """Return {"OPTIM.LR": "0.1"} for ["OPTIM.LR", "0.1"]; raise UsageError for other lists."""
    for key in words[::2]:
        if key.startswith("-"):
            raise UsageError(
                f"expected KEY VALUE pairs after SEED, got {key!r}: the protocol sets all flags"
            )
    if len(words) % 2:
        raise UsageError(
            f"expected KEY VALUE pairs after SEED, but {words[-1]!r} has no value in {list(words)}"
        )
    return dict(zip(words[::2], words[1::2], strict=True))


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return "KEY was A, now is B" for every key in which two flat tables differ."""
    absent = "not set"
    return [
        f"{key} was {then.get(key, absent)}, now is {now.get(key, absent)}"
        for key in sorted({*then, *now})
        if then.get(key, absent) != now.get(key, absent)
    ]
