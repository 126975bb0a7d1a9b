"""Safe reading of the pickled image lists that CoOp writes.

A pickle can call any function that it names, so only a stand-in of :class:`Datum` is admitted, and
it can take any amount of memory, so its sizes are checked first. Its absolute paths become stale
when a data folder moves, so images are found by the end of their path.
"""

import io
import os
import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dassl.data.datasets import Datum
from dassl.utils import UsageError, atomic_path

from .pickle_scan import check_sizes
from .text import shown

DATUM = (Datum.__module__, Datum.__qualname__)
ATTRIBUTES = {"_impath": str, "_label": int, "_domain": int, "_classname": str}
MAX_BYTES = 2**30  # ImageNet's list of 1.28 million images has about 150 MB
BYTES_PER_IMAGE = 2048  # of a path and a class name, generously


class _DatumUnpickler(pickle.Unpickler):
    """Unpickler of plain containers and of objects with Datum's attributes, but without its code.

    A pickle can also set attributes of a class. This one exists for a single pickle.
    """

    def __init__(self, content: bytes, path: str) -> None:
        super().__init__(io.BytesIO(content))
        self.path = path
        self.inert = type("Datum", (), {})

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == DATUM:
            return self.inert
        raise UsageError(
            f"refused to load {self.path}: it names {shown(f'{module}.{name}')}, which could run "
            "code; a list of images names only Datum. Delete the file if you do not know its origin"
        )

    def image_lists(self) -> dict[str, list[Datum]] | None:
        """Load the content; return None unless it is a dict of lists of Datum."""
        content = self.load()
        if not isinstance(content, dict):
            return None
        lists = {name: self._images(value) for name, value in content.items()}
        return lists if all(images is not None for images in lists.values()) else None  # type: ignore[return-value]

    def _images(self, value: Any) -> list[Datum] | None:
        if not isinstance(value, list):
            return None
        images = []
        for item in value:
            found = vars(item) if type(item) is self.inert else {}
            if any(type(found.get(name)) is not kind for name, kind in ATTRIBUTES.items()):
                return None
            images.append(Datum(*(found[name] for name in ATTRIBUTES)))
        return images


def load_pickle(path: str, images: int) -> dict[str, list[Datum]]:
    """Load image lists by split name.

    Args:
        path: the pickle.
        images: the most images that it can name.

    Raises:
        UsageError: the pickle has other contents, or takes more memory than such lists do.
    """
    limit = min(MAX_BYTES, 2**20 + BYTES_PER_IMAGE * images)
    if (size := os.path.getsize(path)) > limit:
        raise UsageError(
            f"{path} has {size:,} bytes, too many for {images:,} images: delete it to create it "
            "again"
        )
    with open(path, "rb") as file:
        content = file.read(limit)
    try:
        check_sizes(content)
        lists = _DatumUnpickler(content, path).image_lists()
    except (UsageError, MemoryError):
        raise
    except Exception as error:  # a broken pickle can raise any exception
        reason = shown(f"{type(error).__name__}: {error}")
        raise UsageError(f"{path} is broken ({reason}): delete it to create it again") from error
    if lists is None:
        raise UsageError(
            f"{path} has no image lists (Datum) by split: delete it to create it again"
        )
    return lists


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
        LookupError: an image is missing, named more often than in ``images``, or has another
            label, or ``cached`` is empty.
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
            raise LookupError(
                f"{shown(item.impath)} has label {item.label} there, {match.label} here"
            )
    twice = Counter(item.impath for item in found) - Counter(item.impath for item in images)
    if twice:
        raise LookupError(f"it names {next(iter(twice))} more than once")
    return found


def check_shots(sampled: Sequence[Datum], images: Sequence[Datum], shots: int) -> None:
    """Check that every class of ``images`` has ``shots`` of them in a sample, or all if fewer.

    Raises:
        LookupError: a class has more or fewer; the message names it.
    """
    found = Counter(item.label for item in sampled)
    names = {item.label: item.classname for item in images}
    for label, count in sorted(Counter(item.label for item in images).items()):
        if found[label] != min(shots, count):
            raise LookupError(
                f"it has {found[label]} images of class {shown(names[label])!r} instead of "
                f"{min(shots, count)}"
            )


def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.replace("\\", "/").split("/"))


def _find_by_end(
    item: Datum, by_end: Mapping[tuple[str, ...], Datum], depths: Sequence[int]
) -> Datum:
    parts = _parts(item.impath)
    for depth in depths:
        if parts[-depth:] in by_end:
            return by_end[parts[-depth:]]
    raise LookupError(f"{shown(item.impath)} is not among the images")
