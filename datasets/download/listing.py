"""The table of `python -m datasets list`."""

from collections.abc import Sequence
from pathlib import Path

from ..base import Counts
from .catalog import Entry, gigabytes, table
from .plan import free_space


def show_list(entries: Sequence[Entry], root: Path) -> str:
    """Return name, classes, images, download size, state and license of each dataset."""
    rows = [("dataset", "classes", "images", "download", "state", "license")]
    for entry in entries:
        counts = entry.cls.counts
        license_line = entry.origin.license if entry.origin else "MIT, drawn by this project"
        rows.append(
            (
                entry.name,
                f"{counts.classes:,}" if counts else "?",
                f"{_images(counts):,}" if counts else "?",
                "none" if entry.drawn else gigabytes(entry.download),
                state(entry, root),
                license_line,
            )
        )
    return f"{table(rows)}\ndata folder: {root}; {free_space(root)}"


def state(entry: Entry, root: Path) -> str:
    """Return whether the files of a dataset are there, without counting its images."""
    folder = entry.folder(root)
    if entry.drawn:
        return "drawn" if (folder / entry.cls.split_file).is_file() else "drawn at first use"
    needed = [path for part in entry.origin.parts for path in part.creates] if entry.origin else []
    images = (folder / entry.cls.image_dir).is_dir() or not entry.cls.image_dir
    there = [path for path in needed if (folder / path).exists()]
    if images and len(there) == len(needed):
        return "there"
    return f"{len(there)} of {len(needed)} parts" if there else "not there"


def _images(counts: Counts) -> int:
    return sum(number or 0 for number in (counts.train, counts.val, counts.test))
