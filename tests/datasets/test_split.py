"""Select, split and write lists of images."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.data.datasets import Datum
from dassl.utils import UsageError
from datasets.dtd import DescribableTextures
from datasets.oxford_pets import OxfordPets
from datasets.split import folder_images, split_folders
from tests.toy_data import write_image


def images(labels):
    return [
        Datum(f"/d/{n}.jpg", label, classname=f"class {label}") for n, label in enumerate(labels)
    ]


@given(st.lists(st.integers(0, 30), min_size=1))
def test_base_and_new_partition_the_classes(labels):
    items = images(labels)
    base, new = (OxfordPets.subsample_classes(items, subsample=s)[0] for s in ("base", "new"))
    assert {i.impath for i in base} | {i.impath for i in new} == {i.impath for i in items}
    assert len(base) + len(new) == len(items)
    ordered = sorted(set(labels))
    half = (len(ordered) + 1) // 2
    for part, names in ((base, ordered[:half]), (new, ordered[half:])):
        assert {(i.label, i.classname) for i in part} == {
            (n, f"class {name}") for n, name in enumerate(names)
        }


def test_classes_are_those_of_the_first_list():
    train, test = images([4, 2, 9]), images([2, 4, 9, 7, 4])
    train_base, test_base = OxfordPets.subsample_classes(train, test, subsample="base")
    assert [item.label for item in train_base] == [1, 0]
    assert [item.label for item in test_base] == [0, 1, 1]


def test_all_keeps_the_lists():
    train, test = images([1]), images([2])
    assert OxfordPets.subsample_classes(train, test, subsample="all") == (train, test)


def test_save_split_and_read_split_are_inverse(tmp_path):
    parts = []
    for part in ("train", "val", "test"):
        write_image(tmp_path / f"images/a b/{part}.png", seed=0, size=8)
        parts.append([Datum(str(tmp_path / f"images/a b/{part}.png"), 3, classname="a b")])
    path = str(tmp_path / "split.json")
    OxfordPets.save_split(*parts, path, str(tmp_path / "images"))
    for before, after in zip(
        parts, OxfordPets.read_split(path, str(tmp_path / "images")), strict=True
    ):
        assert [vars(item) for item in before] == [vars(item) for item in after]


def test_split_trainval_splits_each_class():
    random.seed(0)
    train, val = OxfordPets.split_trainval(images([0] * 10 + [1] * 5), p_val=0.2)
    assert sorted(item.label for item in val) == [0, 0, 1]
    assert sorted(item.label for item in train) == [0] * 8 + [1] * 4
    assert len({item.impath for item in [*train, *val]}) == 15


def test_split_trainval_of_too_few_images():
    with pytest.raises(UsageError, match=r"'class 0' has 2 images: too few"):
        OxfordPets.split_trainval(images([0, 0]), p_val=0.2)


def test_split_folders_renames_and_ignores(tmp_path):
    for name in ("BACKGROUND_Google", "Faces", "ant"):
        for n in range(10):
            write_image(tmp_path / name / f"{n}.png", seed=n, size=8)
    random.seed(0)
    train, val, test = DescribableTextures.read_and_split_data(
        str(tmp_path), ignored=["BACKGROUND_Google"], new_cnames={"Faces": "face"}
    )
    assert (len(train), len(val), len(test)) == (10, 4, 6)
    assert {(item.label, item.classname) for item in train} == {(0, "face"), (1, "ant")}
    assert len({item.impath for item in [*train, *val, *test]}) == 20


def test_split_folders_of_too_few_images(tmp_path):
    write_image(tmp_path / "ant/0.png", seed=0, size=8)
    with pytest.raises(UsageError, match=r"ant has 1 images: too few to split"):
        split_folders(str(tmp_path))


def test_folder_images_are_sorted(tmp_path):
    for name in ("b.JPG", "a.png", "c.webp"):
        (tmp_path / name).touch()
    names = [item.impath.rsplit("/", 1)[1] for item in folder_images(str(tmp_path), 0, "x")]
    assert names == ["a.png", "b.JPG", "c.webp"]
