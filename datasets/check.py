"""What the splits of a dataset must have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dassl.data.datasets import Datum
from dassl.utils import UsageError

Splits = Mapping[str, Sequence[Datum]]


def check_splits(name: str, splits: Splits) -> int:
    """Count the classes of the dataset ``name``: labels 0 to n - 1, each with one class name.

    The training split tells them, or the test split where there is no other. Images that are both
    trained on and tested on are said.

    Raises:
        UsageError: labels have gaps or two names, or a class has no training images.
    """
    names: dict[int, str] = {}
    for items in splits.values():
        for item in items:
            known = names.setdefault(item.label, item.classname)
            if known != item.classname:
                raise UsageError(
                    f"{name}: label {item.label} is named both {known!r} and {item.classname!r} "
                    f"({item.impath}): each label has one class name"
                )
    told_by = splits.get("train", splits["test"])
    labels = {item.label for item in told_by}
    for part, items in splits.items():
        unknown = sorted({item.classname for item in items if item.label not in labels})
        if unknown:
            raise UsageError(
                f"{name}: the {part} split has classes without training images "
                f"({', '.join(unknown[:3])}): every class needs some"
            )
    if labels != set(range(len(labels))):
        some = ", ".join(map(str, sorted(labels)[:5])) + (", ..." if len(labels) > 5 else "")
        raise UsageError(
            f"{name}: its {len(labels)} classes have the labels {some}: they must count from 0 to "
            f"{len(labels) - 1} without gaps"
        )
    _say_shared(name, splits)
    return len(labels)


def _say_shared(name: str, splits: Splits) -> None:
    trained = {item.impath for item in splits.get("train", ())}
    shared = sum(item.impath in trained for item in splits["test"])
    if shared:
        print(
            f"warning: {name} has {shared:,} of its {len(splits['test']):,} test images in the "
            "training split, too: its accuracy is no measure of what was learned"
        )
