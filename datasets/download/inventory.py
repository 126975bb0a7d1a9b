"""Compare the files of a dataset with the list of its images, without opening any image."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dassl.utils import UsageError
from dassl.utils.schema import read_checked

from ..fgvc_aircraft import FGVCAircraft
from ..imagenet import ClassFolderDataset, ImageNet
from ..split import IMAGE_EXTENSIONS, PARTS
from .catalog import Entry
from .errors import SourceError
from .sources import Source
from .verify import verify

SplitFile = dict[str, list[tuple[str, int, str]]]


@dataclass
class Inventory:
    """What is there of a dataset.

    ``images`` are paths below the dataset's folder. ``missing`` are the images that its list names
    and that are not there; the images of class folders are in no list, and are counted instead.
    """

    images: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)  # files and folders that are needed
    counts: list[str] = field(default_factory=list)  # what differs from the official numbers
    split: str = "-"  # "CoOp's", "another", "not there", "unreadable"
    too_few: int = 0  # images that class folders have less than the official dataset
    note: str = ""

    @property
    def complete(self) -> bool:
        """Whether nothing is missing; the numbers may differ from the official ones."""
        return not (self.missing or self.absent or self.too_few or self.split == "unreadable")


def take_inventory(entry: Entry, root: Path) -> Inventory:
    """Look for all files of a dataset below the data folder ``root``."""
    folder = entry.folder(root)
    found = Inventory()
    for part in entry.origin.parts if entry.origin else ():
        found.absent += [path for path in part.creates if not (folder / path).exists()]
    if issubclass(entry.cls, FGVCAircraft):
        _list_aircraft(folder, found)
    elif issubclass(entry.cls, ClassFolderDataset):
        _count_class_folders(entry, folder, found)
    else:
        _list_split(entry, folder, found)
    return found


def _list_split(entry: Entry, folder: Path, found: Inventory) -> None:
    path = folder / entry.cls.split_file
    if not path.is_file():
        found.split = "not there"
        if path.name not in found.absent and not entry.drawn:
            found.absent.append(path.name)
        return
    try:
        split = read_checked(path, SplitFile, "delete it and fetch it again")
    except UsageError as error:
        found.split, found.note = "unreadable", str(error)
        return
    found.split = "-" if entry.drawn else _whose_split(entry, path)
    prefix = os.path.normpath(entry.cls.image_dir)
    _look_for(
        folder,
        (
            os.path.normpath(f"{prefix}/{image}")
            for part in PARTS
            for image, *_ in split.get(part, ())
        ),
        found,
    )
    numbers = {part: len(split.get(part, ())) for part in PARTS}
    _compare(entry, {part: n for part, n in numbers.items() if n}, found)


def _whose_split(entry: Entry, path: Path) -> str:
    for source in _split_sources(entry):
        try:
            verify(path, source)
        except SourceError:
            continue
        return "CoOp's"
    return "another"


def _split_sources(entry: Entry) -> Iterator[Source]:
    for part in entry.origin.parts if entry.origin else ():
        if part.creates == [entry.cls.split_file]:
            yield from part.sources


def _list_aircraft(folder: Path, found: Inventory) -> None:
    numbers = {}
    paths: list[str] = []
    for part in PARTS:
        path = folder / f"images_variant_{part}.txt"
        if not path.is_file():
            continue
        lines = [
            line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line
        ]
        numbers[part] = len(lines)
        paths += [f"images/{line.split(' ')[0]}.jpg" for line in lines]
    _look_for(folder, paths, found)
    counts = FGVCAircraft.counts
    for part, number in numbers.items():
        expected = getattr(counts, part)
        if number != expected:
            found.counts.append(f"{part}: {number:,} images instead of {expected:,}")


def _look_for(folder: Path, paths: Iterable[str], found: Inventory) -> None:
    """Sort paths into those that exist and those that do not; each folder is listed once."""
    listings: dict[str, set[str]] = {}
    for path in dict.fromkeys(paths):
        parent, name = os.path.split(path)
        if parent not in listings:
            where = folder / parent
            listings[parent] = set(os.listdir(where)) if where.is_dir() else set()
        (found.images if name in listings[parent] else found.missing).append(path)


def _count_class_folders(entry: Entry, folder: Path, found: Inventory) -> None:
    """Count the images in the class folders of ImageNet and its variants."""
    parts = ("train", "val") if issubclass(entry.cls, ImageNet) else ("",)
    expected = entry.cls.counts
    for part in parts:
        where = folder / entry.cls.image_dir / part
        if not where.is_dir():
            name = os.path.relpath(where, folder)
            found.absent += [name] if name not in found.absent else []
            continue
        images = [os.path.relpath(path, folder) for path in _class_images(where)]
        found.images += images
        classes = len(Counter(os.path.dirname(path) for path in images))
        official = (expected.train if part == "train" else expected.test) if expected else None
        if expected is None or official is None:
            continue
        found.too_few += max(0, official - len(images))
        if (classes, len(images)) != (expected.classes, official):
            found.counts.append(
                f"{part or entry.cls.image_dir}: {len(images):,} images in {classes:,} class "
                f"folders instead of {official:,} in {expected.classes:,}"
            )


def _class_images(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        folders = sorted(entry.path for entry in entries if entry.is_dir())
    for path in folders:
        with os.scandir(path) as entries:
            names = [e.path for e in entries if e.name.lower().endswith(IMAGE_EXTENSIONS)]
        yield from sorted(names)


def _compare(entry: Entry, numbers: dict[str, int], found: Inventory) -> None:
    """Note which parts of a split have another number of images than the official dataset."""
    official = entry.cls.counts
    for part in PARTS if official else ():
        expected = getattr(official, part)
        if expected is not None and numbers.get(part, 0) != expected:
            found.counts.append(f"{part}: {numbers.get(part, 0):,} images instead of {expected:,}")
