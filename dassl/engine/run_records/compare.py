"""Compare the data of two runs."""

from collections.abc import Mapping, Sequence
from typing import Any

PARTS = ("train", "train_u", "val", "test")


def data_differences(
    then: Mapping[str, Any] | None,
    now: Mapping[str, Any] | None,
    parts: Sequence[str] = PARTS,
) -> list[str]:
    """Return what differs between two results of `describe_data`; [] if one is unknown.

    The folder may have moved, so roots are not compared.
    """
    if not then or not now:
        return []
    found = class_differences(then["classes"], now["classes"])
    if not found and then["all_classes"] != now["all_classes"]:
        changed = class_differences(then["all_classes"], now["all_classes"])
        found = [f"among all classes {line}" for line in changed]
    for part in parts:
        old, new = then.get(part), now.get(part)
        if old != new:
            found.append(f"the {part} images were {_size(old)}, now are {_size(new, old)}")
    return found


def class_differences(then: Sequence[str], now: Sequence[str]) -> list[str]:
    """Return the first difference between two lists of class names as a list of one sentence."""
    for label, (old, new) in enumerate(zip(then, now, strict=False)):
        if old != new:
            return [f"class {label} was {old!r}, now is {new!r}"]
    if len(then) != len(now):
        more, fewer = (then, now) if len(then) > len(now) else (now, then)
        verb = "no longer exists" if more is then else "is new"
        return [f"class {len(fewer)}, {more[len(fewer)]!r}, {verb}"]
    return []


def _size(part: Mapping[str, Any] | None, other: Mapping[str, Any] | None = None) -> str:
    if part is None:
        return "none"
    same = other is not None and other["images"] == part["images"]
    return f"{part['images']:,} others" if same else f"{part['images']:,}"
