"""Mutated text files that fetching reads: sources.yaml, label files and split files."""

from __future__ import annotations

from pathlib import Path

import pytest

from dassl.utils import UsageError
from datasets.download.catalog import catalog
from datasets.download.imagenet import _read_labels
from datasets.download.inventory import take_inventory
from datasets.download.sources import SOURCES, load_origins
from tests.fuzz.harness import fuzz

SPLIT = b'{"train": [["a/1.jpg", 0, "a"]], "val": [], "test": [["a/2.jpg", 0, "a"]]}'
LABELS = b"ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 85 1 499 272\n"


def test_sources(tmp_path: Path) -> None:
    text = SOURCES.read_bytes()
    short = text[text.index(b"eurosat:") : text.index(b"ucf101:")]
    print(fuzz(load_origins.__wrapped__, [short], tmp_path, "sources.yaml", (UsageError,)))


def test_labels(tmp_path: Path) -> None:
    print(fuzz(_read_labels, [LABELS], tmp_path, "labels.csv", (UsageError,)))


@pytest.mark.parametrize("name", ["dtd", "fgvc_aircraft"])
def test_lists_of_images(name: str, tmp_path: Path) -> None:
    entry = catalog()[name]
    folder = entry.folder(tmp_path)
    folder.mkdir(parents=True)
    lists = {
        "dtd": "split_zhou_DescribableTextures.json",
        "fgvc_aircraft": "images_variant_val.txt",
    }
    seed = {"dtd": SPLIT, "fgvc_aircraft": b"1025794 707-320\n1340192 A310\n"}[name]

    def read(path: Path) -> object:
        path.replace(folder / lists[name])
        return take_inventory(entry, tmp_path)

    print(fuzz(read, [seed], tmp_path, "list", (UsageError,)))
