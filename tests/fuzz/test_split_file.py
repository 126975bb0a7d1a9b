"""Damaged split files end in a UsageError, and no image outside the image folder is listed."""

from __future__ import annotations

import json
from pathlib import Path

from dassl.utils import UsageError
from datasets.split import check_splits, read_split
from tests.fuzz.harness import fuzz
from tests.toy_data import caltech101


def test_split_file(tmp_path: Path) -> None:
    caltech101(tmp_path, classes=3, train=2, val=1, test=1, size=8)
    (written,) = tmp_path.glob("*/split_*.json")
    images = str(written.parent / "101_ObjectCategories")
    seeds = [written.read_bytes(), written.read_bytes().replace(b"/", rb"\\")]
    seeds.append(json.dumps(json.loads(seeds[0]), indent=4).encode())

    def read(path: Path) -> None:
        parts = dict(zip(("train", "val", "test"), read_split(str(path), images), strict=True))
        check_splits("Caltech101", parts)
        listed = {item.impath for items in parts.values() for item in items}
        assert all(Path(path).resolve().is_relative_to(images) for path in listed)

    print(fuzz(read, seeds, tmp_path, "split.json", (UsageError,)))
