"""Safe reading of the pickled image lists that CoOp writes.

A pickle can call any function that it names, so only :class:`Datum` is admitted. Its absolute paths
become stale when a data folder moves, so images are found by the end of their path.
"""

import os
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from dassl.data.datasets import Datum
from dassl.utils import UsageError, atomic_path

DATUM = (Datum.__module__, Datum.__qualname__)
ATTRIBUTES = {"_impath": str, "_label": int, "_domain": int, "_classname": str}


class _DatumUnpickler(pickle.Unpickler):
    """Unpickler of plain containers and Datum."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        super().__init__(file)
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == DATUM:
            return Datum
        raise UsageError(
            f"refused to load {self.path}: it names {module}.{name}, which could run code; a list "
            "of images names only Datum. Delete the file if you do not know its origin"
        )


def load_pickle(path: str) -> dict[str, list[Datum]]:
    """Load image lists by split name; raise a UsageError for a pickle with other contents."""
    try:
        with open(path, "rb") as file:
            content = _DatumUnpickler(file, path).load()
    except UsageError:
        raise
    except Exception as error:  # a broken pickle can raise any exception
        raise UsageError(
            f"{path} is broken ({type(error).__name__}: {error}): delete it to create it again"
        ) from error
    if not isinstance(content, dict) or not all(map(_is_image_list, content.values())):
        raise UsageError(
            f"{path} has no image lists (Datum) by split: delete it to create it again"
        )
    return content


def _is_image_list(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, Datum)
        and all(isinstance(vars(item).get(name), kind) for name, kind in ATTRIBUTES.items())
        for item in value
    )


def save_pickle(path: str, splits: Mapping[str, Sequence[Datum]]) -> None:
    """Save image lists by split name; print a note if the folder is not writable.

    Without the file, the next run samples the same images from the same seed.
    """
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            content = {name: list(items) for name, items in splits.items()}
            pickle.dump(content, file, protocol=pickle.HIGHEST_PROTOCOL)
    except OSError as error:
        print(f"{path} was not saved: the data folder is not writable ({error})")


def find_images(cached: Sequence[Datum], images: Sequence[Datum], folder: str) -> list[Datum]:
    """Return those of ``images`` that ``cached`` names, in the order of ``cached``.

    ``images`` are below ``folder``, ``cached`` below it or its location before it was moved.

    Raises:
        LookupError: an image is missing or has another label, or ``cached`` is empty.
    """
    if images and not cached:
        raise LookupError("it names no images")
    known = {item.impath: item for item in images}
    if all(item.impath in known for item in cached):
        found = [known[item.impath] for item in cached]
    else:
        prefix = folder + os.sep
        by_end = {_parts(item.impath.removeprefix(prefix)): item for item in images}
        depths = sorted({len(parts) for parts in by_end}, reverse=True)
        found = [_find_by_end(item, by_end, depths) for item in cached]
    for item, match in zip(cached, found, strict=True):
        if item.label != match.label:
            raise LookupError(f"{item.impath} has label {item.label} there, {match.label} here")
    return found


def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.replace("\\", "/").split("/"))


def _find_by_end(
    item: Datum, by_end: Mapping[tuple[str, ...], Datum], depths: Sequence[int]
) -> Datum:
    parts = _parts(item.impath)
    for depth in depths:
        if parts[-depth:] in by_end:
            return by_end[parts[-depth:]]
    raise LookupError(f"{item.impath} is not among the images")
