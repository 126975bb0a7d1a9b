"""Damaged preprocessed.pkl files of ImageNet end in a UsageError, or are not used."""

from __future__ import annotations

import pickle
from pathlib import Path

from dassl.utils import UsageError
from datasets.imagenet import ImageNet
from tests.fuzz.harness import fuzz
from tests.toy_data import data_config, write_image


def test_preprocessed_pickle(tmp_path: Path) -> None:
    folder = tmp_path / "imagenet"
    for label, wnid in enumerate(["n01440764", "n01443537"]):
        for number, part in enumerate(["train", "train", "train", "val"]):
            write_image(folder / f"images/{part}/{wnid}/{number}.JPEG", seed=label, size=8)
    (folder / "classnames.txt").write_text("n01440764 tench\nn01443537 goldfish\n")
    dataset = ImageNet(data_config(tmp_path, "ImageNet"))
    images = list(dataset.train_x)
    content = {"train": images[::-1], "test": list(dataset.test)}
    seeds = [pickle.dumps(content, protocol) for protocol in (2, 5)]

    def read(path: Path) -> None:
        order = dataset.sampling_order(images)
        assert sorted(map(id, order)) == sorted(map(id, images))

    print(fuzz(read, seeds, folder, "preprocessed.pkl", (UsageError,)))
