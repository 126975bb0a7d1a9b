"""Lists of images: read split files and class folders, check them, select base or new classes."""

import math
import os
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import UsageError, listdir_nohidden, nearest, write_json
from dassl.utils.schema import Count, Record, read_checked

from .text import shown

Images = list[Datum]
PARTS = ("train", "val", "test")
_EXTENSIONS = ("jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "gif")
IMAGE_EXTENSIONS = tuple(f".{name}" for name in _EXTENSIONS)
JUNK_FOLDERS = ("__MACOSX",)  # made by archivers; hidden folders are not classes either

_FORMAT = '{"train": [[path, label, class name], ...], "val": [...], "test": [...]}'
_DRIVE = re.compile("[A-Za-z]:/")


class _SplitFile(Record):
    """A split file; labels count from 0."""

    train: list[tuple[str, Count, str]]
    val: list[tuple[str, Count, str]]
    test: list[tuple[str, Count, str]]


def read_split(
    filepath: str, path_prefix: str, hint: str = "unpack the images there again"
) -> tuple[Images, Images, Images]:
    """Return the training, validation and test images of a split file.

    The file is JSON: {"train": [[path below path_prefix, label, class name], ...], "val": ...,
    "test": ...}.

    Raises:
        UsageError: the file has another format, or images are missing (``hint`` ends the message).
    """
    print(f"Reading split from {filepath}")
    split = read_checked(filepath, _SplitFile, f"it must contain {_FORMAT}")
    parts = [
        [
            Datum(_join(path_prefix, path, filepath), label=label, classname=name)
            for path, label, name in getattr(split, part)
        ]
        for part in PARTS
    ]
    train, val, test = parts
    require_images([*train, *val, *test], path_prefix, filepath, hint)
    return train, val, test


def _join(folder: str, path: str, listed_in: str) -> str:
    """Return the path of an image that a split file lists; raise a UsageError if it is outside."""
    full = os.path.join(folder, path)
    if "\\" in path and not os.path.lexists(full):  # the file was written on Windows
        path = path.replace("\\", "/")
        full = os.path.join(folder, path)
    if os.path.isabs(path) or _DRIVE.match(path) or ".." in path.split("/"):
        raise UsageError(
            f"{listed_in} lists the image {shown(path)}, which is not below {folder}: paths must "
            "be relative to that folder, without '..'"
        )
    return full


def save_split(train: Images, val: Images, test: Images, filepath: str, path_prefix: str) -> None:
    """Write the split file that :func:`read_split` reads."""
    split = {
        part: [
            (os.path.relpath(i.impath, path_prefix).replace(os.sep, "/"), i.label, i.classname)
            for i in items
        ]
        for part, items in zip(PARTS, (train, val, test), strict=True)
    }
    write_json(split, filepath)
    print(f"Saved split to {filepath}")


def require_images(items: Sequence[Datum], folder: str, listed_in: str, hint: str) -> None:
    """Raise a UsageError that counts and names missing images."""
    listings: dict[str, set[str]] = {}  # listing is faster than many checks on a network drive
    missing = []
    for item in items:
        parent, name = os.path.split(item.impath)
        if parent not in listings:
            listings[parent] = set(os.listdir(parent)) if os.path.isdir(parent) else set()
        if name not in listings[parent]:
            missing.append(os.path.relpath(item.impath, folder))
    if missing:
        raise UsageError(
            f"{len(missing):,} of the {len(items):,} images listed in {listed_in} are not in "
            f"{folder} ({some(missing)}): {hint}"
        )


def some(names: Sequence[str]) -> str:
    """Return the first three names for a message."""
    return ", ".join(map(shown, names[:3])) + (", ..." if len(names) > 3 else "")


def check_splits(name: str, splits: Mapping[str, Sequence[Datum]]) -> int:
    """Check that labels are 0 to n - 1 with one class name each; return n.

    The classes are those of the training split, or of the test split if there is no other. An
    empty split, gaps, two names of a label and classes without training images raise a UsageError.
    Test images that occur in the training split cause a warning.
    """
    names: dict[int, str] = {}
    for part, items in splits.items():
        if not items and part != "val":
            raise UsageError(f"{name}: the {part} split has no images: add some")
        for item in items:
            known = names.setdefault(item.label, item.classname)
            if known != item.classname:
                raise UsageError(
                    f"{name}: label {item.label} has the class names {shown(known)!r} and "
                    f"{shown(item.classname)!r} ({shown(item.impath)}), but only one is allowed"
                )
    labels = {item.label for item in splits.get("train", splits["test"])}
    for part, items in splits.items():
        unknown = sorted({item.classname for item in items if item.label not in labels})
        if unknown:
            raise UsageError(
                f"{name}: the {part} split has classes without training images "
                f"({some(unknown)}): add some"
            )
    if labels != set(range(len(labels))):
        listed = ", ".join(map(str, sorted(labels)[:5])) + (", ..." if len(labels) > 5 else "")
        gap = next(label for label in range(len(labels)) if label not in labels)
        after = min(label for label in labels if label > gap)
        raise UsageError(
            f"{name}: its {len(labels)} classes have the labels {listed}: they must be 0 to "
            f"{len(labels) - 1} without gaps, but before {after} ({shown(names[after])}) there is "
            f"no {gap}"
        )
    trained = {item.impath for item in splits.get("train", ())}
    shared = sum(item.impath in trained for item in splits["test"])
    if shared:
        print(
            f"warning: {shared:,} of the {len(splits['test']):,} test images of {name} are also "
            "in the training split, so test accuracy does not measure generalization"
        )
    return len(labels)


def split_trainval(trainval: Sequence[Datum], p_val: float = 0.2) -> tuple[Images, Images]:
    """Split a fraction ``p_val`` of each class off for validation, with Python's ``random``."""
    print(f"Splitting trainval into {1 - p_val:.0%} train and {p_val:.0%} val")
    train: Images = []
    val: Images = []
    for items in DatasetBase.split_dataset_by_label(trainval).values():
        count = round(len(items) * p_val)
        if not count:
            raise UsageError(
                f"class {items[0].classname!r} has {len(items)} images: too few for a validation "
                f"fraction of {p_val:.0%}"
            )
        shuffled = random.sample(items, len(items))
        val += shuffled[:count]
        train += shuffled[count:]
    return train, val


def split_folders(
    image_dir: str,
    p_trn: float = 0.5,
    p_val: float = 0.2,
    ignored: Iterable[str] = (),
    new_cnames: Mapping[str, str] | None = None,
) -> tuple[Images, Images, Images]:
    """Split the images of class folders with Python's ``random``.

    ``image_dir`` has one subfolder per class, and labels follow the sorted names. ``p_trn`` and
    ``p_val`` are the fractions of training and validation images per class. ``ignored`` subfolders
    are skipped; ``new_cnames`` maps folders to class names where they differ.

    Raises:
        UsageError: there are no class folders, or one has too few images.
    """
    print(f"Splitting {image_dir} into {p_trn:.0%} train, {p_val:.0%} val, and the rest test")
    names = new_cnames or {}
    train: Images = []
    val: Images = []
    test: Images = []
    report_skipped(image_dir)
    folders = [name for name in class_folders(image_dir) if name not in set(ignored)]
    if not folders:
        raise UsageError(f"{image_dir} has no class folders: it must have one folder per class")
    for label, folder in enumerate(folders):
        items = folder_images(os.path.join(image_dir, folder), label, names.get(folder, folder))
        random.shuffle(items)
        first, second = round(len(items) * p_trn), round(len(items) * (p_trn + p_val))
        if not 0 < first < second < len(items):
            raise UsageError(f"{image_dir}/{folder} has {len(items)} images: too few to split")
        train += items[:first]
        val += items[first:second]
        test += items[second:]
    return train, val, test


def class_folders(folder: str) -> list[str]:
    """Return the sorted names of the subfolders, without hidden ones and those of archivers."""
    return [name for name in _subfolders(folder) if not _is_junk(name)]


def report_skipped(folder: str) -> None:
    """Print which subfolders are not taken for classes, if any."""
    skipped = [name for name in _subfolders(folder) if _is_junk(name)]
    if skipped:
        print(f"Skipping folders in {folder} that are not classes: {some(skipped)}")


def _subfolders(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name in JUNK_FOLDERS


def read_classes(folder: str, classes: Sequence[tuple[str, int, str]]) -> Images:
    """Return the images of class folders.

    Args:
        folder: the folder of the class folders.
        classes: for each class the name of its folder, its label and its name.

    Raises:
        UsageError: there is no class, or one has no images.
    """
    images: Images = []
    for subfolder, label, name in classes:
        found = folder_images(os.path.join(folder, subfolder), label, name)
        if not found:
            raise UsageError(
                f"there are no images in the class folder {os.path.join(folder, subfolder)}: add "
                f"some ({', '.join(_EXTENSIONS)}), or remove the folder"
            )
        images += found
    if not images:
        raise UsageError(f"there are no class folders with images in {folder}: add some")
    return images


def folder_images(folder: str, label: int, classname: str) -> Images:
    """Return the images of a class folder, sorted by name, without hidden files."""
    names = listdir_nohidden(folder, sort=True)
    images = [name for name in names if name.lower().endswith(IMAGE_EXTENSIONS)]
    if len(images) < len(names):
        others = [name for name in names if name not in set(images)]
        print(f"Skipping {len(others)} files in {folder} that are not images, like {others[0]}")
    return [Datum(os.path.join(folder, name), label=label, classname=classname) for name in images]


def base_and_new(items: Sequence[Datum]) -> dict[str, list[int]]:
    """Return the sorted labels of ``items``: the first ceil(n / 2) are "base", the rest "new"."""
    labels = sorted({item.label for item in items})
    half = math.ceil(len(labels) / 2)
    return {"base": labels[:half], "new": labels[half:]}


def subsample_classes(*args: Sequence[Datum], subsample: str = "all") -> Sequence[Any]:
    """Keep the base or the new classes of each list, and renumber their labels from 0.

    Of the n sorted labels in the first list, the first ceil(n / 2) are base, the rest are new.

    Raises:
        UsageError: ``subsample`` is not "all", "base" or "new".
    """
    allowed = ("all", "base", "new")
    if subsample not in allowed:
        raise UsageError(
            f"DATASET.SUBSAMPLE_CLASSES is {subsample!r}: {nearest(subsample, allowed)}"
        )
    if subsample == "all":
        return args
    groups = base_and_new(args[0])
    selected = groups[subsample]
    total = sum(map(len, groups.values()))
    print(f"Keeping the {len(selected)} {subsample} classes of {total}")
    relabel = {label: new for new, label in enumerate(selected)}
    return [
        [
            Datum(item.impath, relabel[item.label], item.domain, item.classname)
            for item in items
            if item.label in relabel
        ]
        for items in args
    ]
