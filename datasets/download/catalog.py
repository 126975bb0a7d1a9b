"""The datasets by the names of their configs, and what of them is in the data folder."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UsageError, nearest

from ..base import SplitDataset
from ..critters import Critters
from .sources import Origin, load_origins

CONFIGS = Path(__file__).parents[2] / "configs" / "datasets"
ROOT = Path(__file__).parents[2] / "data"
_OWN_IMAGES = "image_folder"


@dataclass(frozen=True)
class Entry:
    """A dataset: the name of its config, its class, and its sources (None: drawn at first use)."""

    name: str
    cls: type[SplitDataset]
    origin: Origin | None

    def folder(self, root: Path) -> Path:
        """Return the dataset's folder below the data folder ``root``."""
        return root / self.cls.dataset_dir

    @property
    def drawn(self) -> bool:
        """Whether the images are drawn at first use."""
        return issubclass(self.cls, Critters)

    @property
    def download(self) -> int | None:
        """Bytes of the first source of each part; None if one is not known."""
        sizes = (
            [part.sources[0].bytes for part in self.origin.parts if part.unpack]
            if self.origin
            else []
        )
        return None if not sizes or None in sizes else sum(size or 0 for size in sizes)


@cache
def catalog() -> dict[str, Entry]:
    """Return all datasets with a fixed folder by the names of their configs."""
    origins = load_origins()
    entries = {}
    for path in sorted(CONFIGS.glob("*.yaml")):
        if path.stem != _OWN_IMAGES:
            name = yaml.safe_load(path.read_text(encoding="utf-8"))["DATASET"]["NAME"]
            entries[path.stem] = Entry(
                path.stem, DATASET_REGISTRY.get(name), origins.get(path.stem)
            )
    return entries


def select(names: Sequence[str], allowed: Sequence[str]) -> list[str]:
    """Return the names without repetitions, "all" replaced by ``allowed``.

    Raises:
        UsageError: a name is not in ``allowed``.
    """
    selected: dict[str, None] = {}
    for name in names:
        if name != "all" and name not in allowed:
            raise UsageError(f"the dataset {name!r} is unknown: {nearest(name, [*allowed, 'all'])}")
        selected |= dict.fromkeys(allowed if name == "all" else [name])
    return list(selected)


def data_root(given: str | None) -> Path:
    """Return the data folder: ``given``, else $DATA, else data/ of the project."""
    return Path(given or os.environ.get("DATA") or ROOT).expanduser()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text as lines with aligned columns; the first row is the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def gigabytes(size: int | None) -> str:
    """Return a number of bytes as MB or GB (powers of ten); "?" for None."""
    if size is None:
        return "?"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
