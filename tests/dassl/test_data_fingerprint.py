"""The description of a run's data tells datasets apart that differ in any image, label or order."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import datasets  # noqa: F401  (registers the datasets)
from dassl.data.datasets import DatasetBase, Datum, build_dataset
from dassl.data.fingerprint import describe_data
from tests.toy_data import caltech101, data_config, write_image


@pytest.fixture
def folder(tmp_path):
    for part in ("train", "test"):
        for label, name in enumerate(["ant", "bee", "cat"]):
            write_image(tmp_path / f"insects/{part}/{name}/{part}.png", seed=label, size=8)
    return tmp_path / "insects"


def describe(folder, **options):
    cfg = data_config(folder, "ImageFolder", {f"DATASET.{k}": v for k, v in options.items()})
    return describe_data(build_dataset(cfg), cfg.DATASET.ROOT)


def test_description_of_an_own_folder(folder):
    lines = "".join(f"train/{n}/train.png\0{i}\n" for i, n in enumerate(["ant", "bee", "cat"]))
    assert describe(folder) == {
        "name": "insects",
        "root": str(folder),
        "classes": ["ant", "bee", "cat"],
        "all_classes": ["ant", "bee", "cat"],
        "train": {"images": 3, "sha256": hashlib.sha256(lines.encode()).hexdigest()},
        "test": {"images": 3, "sha256": describe(folder)["test"]["sha256"]},
    }


def test_all_classes_are_those_before_the_selection(folder):
    found = describe(folder, SUBSAMPLE_CLASSES="new")
    assert (found["classes"], found["all_classes"]) == (["cat"], ["ant", "bee", "cat"])


def test_another_image_and_another_class_name_change_the_description(folder):
    before = describe(folder)
    (folder / "test/ant/test.png").rename(folder / "test/ant/other.png")
    after = describe(folder)
    assert after["test"] != before["test"]
    assert after["train"] == before["train"]
    for part in ("train", "test"):
        (folder / part / "ant").rename(folder / part / "wasp")
    assert describe(folder)["classes"] == ["bee", "cat", "wasp"]


def test_a_moved_folder_has_the_same_images(folder, tmp_path):
    before = describe(folder)
    folder.rename(tmp_path / "bugs")
    after = describe(tmp_path / "bugs")
    assert after == {**before, "name": "bugs", "root": str(tmp_path / "bugs")}


def test_paths_are_below_the_folder_of_the_dataset(tmp_path):
    caltech101(tmp_path, classes=2, train=1, val=1, test=1)
    cfg = data_config(tmp_path, "Caltech101")
    found = describe_data(build_dataset(cfg), cfg.DATASET.ROOT)
    lines = "".join(
        f"101_ObjectCategories/{name}/image_0001.jpg\0{i}\n"
        for i, name in enumerate(["Faces", "Leopards"])
    )
    assert found["name"] == "Caltech101"
    assert found["train"]["sha256"] == hashlib.sha256(lines.encode()).hexdigest()


def dataset_of(*images):
    return DatasetBase(train_x=[Datum(path, label) for path, label in images], test=[])


def test_order_and_labels_change_the_hash():
    orders = [
        (("a", 0), ("b", 1)),
        (("b", 1), ("a", 0)),
        (("a", 1), ("b", 0)),
    ]
    hashes = {describe_data(dataset_of(*order), "")["train"]["sha256"] for order in orders}
    assert len(hashes) == 3


def test_datasets_without_this_projects_attributes():
    images = [Datum("/data/x/a.png", 0)]
    plain = SimpleNamespace(train_x=images, train_u=images, val=None, test=images, classnames=["a"])
    found = describe_data(plain, "/data")
    assert found["all_classes"] == ["a"]
    assert found["train_u"] == found["train"] == found["test"]
    assert "val" not in found


def test_names_that_are_not_utf8():
    assert describe_data(dataset_of(("caf\udce9.png", 0)), "")["train"]["images"] == 1


def test_speed_on_imagenet():
    images = [Datum(f"/d/images/train/n{i // 1281:08d}/{i}.JPEG", i // 1281) for i in range(10**5)]
    dataset = DatasetBase(train_x=images)
    began = time.process_time()
    describe_data(dataset, "/d")
    assert time.process_time() - began < 3 / 12.8 * 2  # 1.28 million images: 3 s on an idle machine


def test_importing_does_not_import_torch():
    code = "import sys, dassl.data.fingerprint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
