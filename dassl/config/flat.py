"""YAML configs and KEY VALUE pairs as one flat table, readable and comparable."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dassl.config import with_bases
from dassl.utils import UsageError


def read_config(path: Path) -> dict[str, Any]:
    """A YAML file over the file that its ``_BASE_`` names, as {"OPTIM.MAX_EPOCH": 10, ...}."""
    return {key: decode(value) for _, tree in with_bases(path) for key, value in flatten(tree)}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested tables, as ("OPTIM.MAX_EPOCH", 10)."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def parse_pairs(words: Sequence[str]) -> dict[str, str]:
    """["OPTIM.LR", "0.1"] -> {"OPTIM.LR": "0.1"}; a UsageError for any other kind of list."""
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


def decode(value: Any) -> Any:
    """A value as yacs reads it: text that is a Python literal ("1e-5", "(224, 224)") becomes it."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """ "KEY was A, now is B" for every key on which two flat tables differ."""
    absent = "not set"
    return [
        f"{key} was {then.get(key, absent)}, now is {now.get(key, absent)}"
        for key in sorted({*then, *now})
        if then.get(key, absent) != now.get(key, absent)
    ]
