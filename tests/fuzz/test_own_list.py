"""Damaged lists of own images and class names end in a UsageError; no image outside is listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dassl.data.datasets import build_dataset
from dassl.utils import UsageError
from datasets.own_list import list_images
from tests.fuzz.harness import fuzz
from tests.toy_data import data_config, write_image

NAMES = ("robin", "blue tit", "Löwe")
ROWS = [(f"photos/{n}.png", NAMES[n % 3], "train" if n < 6 else "test") for n in range(9)]
CSV = "path,class,split\n" + "".join(f'{path},"{name}",{part}\n' for path, name, part in ROWS)
JSONL = "".join(json.dumps({"path": p, "class": c, "split": s}) + "\n" for p, c, s in ROWS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(9):
        write_image(tmp_path / f"photos/{number}.png", seed=number, size=8)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "seeds"),
    [
        ("images.csv", [CSV, CSV.replace(",", ";"), CSV.replace("\n", "\r\n")]),
        ("images.jsonl", [JSONL, JSONL.replace(", ", ",\t")]),
    ],
)
def test_own_list(folder: Path, name: str, seeds: list[str]) -> None:
    def read(path: Path) -> None:
        build_dataset(data_config(folder, "ImageFolder"))
        assert all(Path(i.impath).resolve().is_relative_to(folder) for i in list_images(str(path)))

    print(fuzz(read, [text.encode() for text in seeds], folder, name, (UsageError,)))


def test_class_names(folder: Path) -> None:
    (folder / "images.csv").write_text(CSV)
    seed = json.dumps({"robin": "European robin", "Löwe": "lion"}).encode()

    def read(path: Path) -> None:
        build_dataset(data_config(folder, "ImageFolder"))

    print(fuzz(read, [seed], folder, "classnames.json", (UsageError,)))
