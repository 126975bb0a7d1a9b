"""The nine datasets with a split file, each in its real layout."""

from __future__ import annotations

import json

import pytest

import datasets  # noqa: F401  (registers the datasets)
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.utils import UsageError, read_image
from datasets.base import Counts
from tests.toy_data import data_config
from tests.toy_layouts import LAYOUTS

SETS = pytest.mark.parametrize("name", LAYOUTS)


@SETS
def test_images_labels_and_names_match_the_split(name, tmp_path):
    split = LAYOUTS[name].make(tmp_path)
    dataset = build_dataset(data_config(tmp_path, name))
    folder = tmp_path / LAYOUTS[name].folder / LAYOUTS[name].images
    for part, items in (
        ("train", dataset.train_x),
        ("val", dataset.val),
        ("test", dataset.test),
    ):
        expected = [(str(folder / path), label, cname) for path, label, cname in split[part]]
        assert [(item.impath, item.label, item.classname) for item in items] == expected
    assert dataset.classnames == list(LAYOUTS[name].classes)
    assert dataset.lab2cname == dict(enumerate(LAYOUTS[name].classes))
    assert dataset.num_classes == 3
    assert read_image(dataset.test[-1].impath).size == (8, 8)


@SETS
def test_base_and_new_classes(name, tmp_path):
    split = LAYOUTS[name].make(tmp_path)
    classes = list(LAYOUTS[name].classes)
    base = build_dataset(data_config(tmp_path, name, {"DATASET.SUBSAMPLE_CLASSES": "base"}))
    new = build_dataset(data_config(tmp_path, name, {"DATASET.SUBSAMPLE_CLASSES": "new"}))
    assert base.classnames == classes[:2]
    assert new.classnames == classes[2:]
    assert {item.label for item in new.test} == {0}
    assert (len(base.train_x), len(base.val), len(base.test)) == (6, 4, 4)
    assert (len(new.train_x), len(new.val), len(new.test)) == (3, 2, 2)
    folder = tmp_path / LAYOUTS[name].folder / LAYOUTS[name].images
    expected = [str(folder / path) for path, label, _ in split["test"] if label == 2]
    assert [item.impath for item in new.test] == expected


@SETS
def test_missing_split_file_names_its_source(name, tmp_path):
    layout = LAYOUTS[name]
    layout.make(tmp_path)
    path = tmp_path / layout.folder / layout.split_file
    path.unlink()
    with pytest.raises(UsageError) as error:
        build_dataset(data_config(tmp_path, name))
    cls = DATASET_REGISTRY.get(name)
    assert cls.split_url.startswith("https://drive.google.com/file/d/")
    for part in (name, str(path), cls.split_url):
        assert part in str(error.value)
    assert not path.exists(), "a random split was written under the official name"


@SETS
def test_missing_image_folder_names_its_source(name, tmp_path):
    layout = LAYOUTS[name]
    layout.make(tmp_path)
    (tmp_path / layout.folder).rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError) as error:
        build_dataset(data_config(tmp_path, name))
    cls = DATASET_REGISTRY.get(name)
    path = tmp_path / layout.folder / layout.images
    command = f"python -m datasets fetch {cls.__module__.removeprefix('datasets.')} --root"
    for part in (name, str(path.resolve()), cls.images_url, cls.mirror, command):
        assert part in str(error.value)


@SETS
def test_missing_images_are_counted_and_named(name, tmp_path):
    split = LAYOUTS[name].make(tmp_path)
    folder = tmp_path / LAYOUTS[name].folder / LAYOUTS[name].images
    gone = [split["train"][0][0], split["test"][-1][0]]
    for path in gone:
        (folder / path).unlink()
    with pytest.raises(UsageError) as error:
        build_dataset(data_config(tmp_path, name))
    assert f"2 of the 21 images listed in {tmp_path}" in str(error.value)
    assert all(path in str(error.value) for path in gone)


def test_unexpected_counts_are_reported(tmp_path, capsys):
    LAYOUTS["EuroSAT"].make(tmp_path)
    build_dataset(data_config(tmp_path, "EuroSAT", {"DATASET.SUBSAMPLE_CLASSES": "base"}))
    log = capsys.readouterr().out
    assert "warning: EuroSAT has 3 classes and 9 / 6 / 6 train / val / test images" in log
    assert "10 classes and 13,500 / 5,400 / 8,100" in log
    assert "have 4 test images, those of the official dataset 4,200" in log


def test_official_counts_print_no_warning(tmp_path, capsys, monkeypatch):
    LAYOUTS["EuroSAT"].make(tmp_path)
    cls = DATASET_REGISTRY.get("EuroSAT")
    monkeypatch.setattr(cls, "counts", Counts(3, 9, 6, 6))
    monkeypatch.setattr(cls, "base_test", 4)
    build_dataset(data_config(tmp_path, "EuroSAT", {"DATASET.SUBSAMPLE_CLASSES": "base"}))
    assert "warning" not in capsys.readouterr().out


def test_official_counts_match_the_papers():
    counts = {
        name: DATASET_REGISTRY.get(name).counts
        for name in ("Caltech101", "EuroSAT", "FGVCAircraft")
    }
    assert str(counts["Caltech101"]).startswith("100 classes and 4,128 / 1,649 / 2,465 ")
    assert DATASET_REGISTRY.get("EuroSAT").base_test == 4200
    assert DATASET_REGISTRY.get("FGVCAircraft").base_test == 1666


def test_unknown_subsample_lists_the_allowed_values(tmp_path):
    LAYOUTS["Food101"].make(tmp_path)
    with pytest.raises(UsageError, match=r"SUBSAMPLE_CLASSES is 'bse': did you mean 'base'"):
        build_dataset(data_config(tmp_path, "Food101", {"DATASET.SUBSAMPLE_CLASSES": "bse"}))


def test_unknown_dataset_names_the_nearest():
    with pytest.raises(UsageError, match=r"'Oxfordpets': did you mean 'OxfordPets'"):
        build_dataset(data_config("", "Oxfordpets"))


def test_dataset_that_renders_its_files_may_create_the_root(tmp_path, monkeypatch):
    cls = DATASET_REGISTRY.get("Food101")
    root = tmp_path / "not/yet"
    monkeypatch.setattr(cls, "prepare", lambda self: LAYOUTS["Food101"].make(root))
    assert len(build_dataset(data_config(root, "Food101")).test) == 6


def test_missing_root_is_reported(tmp_path):
    with pytest.raises(UsageError, match=r"set DATASET.ROOT \(--root\), now '.*nowhere'"):
        build_dataset(data_config(tmp_path / "nowhere", "Food101"))


@pytest.mark.parametrize("root", ["", " ", "a\0b"])
@pytest.mark.parametrize("name", ["Food101", "Critters", "ImageFolder", "ImageNet"])
def test_empty_root_is_refused(name, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"DATASET.ROOT \(--root\) is '.*': set it to the folder"):
        build_dataset(data_config(root, name))
    assert not any(tmp_path.iterdir())


def test_the_working_folder_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    LAYOUTS["Food101"].make(tmp_path)
    assert len(build_dataset(data_config(".", "Food101")).test) == 6


def test_file_in_place_of_the_image_folder(tmp_path):
    (tmp_path / "food-101").mkdir()
    (tmp_path / "food-101/images").touch()
    with pytest.raises(UsageError, match=r"food-101/images is a file, but must be the folder"):
        build_dataset(data_config(tmp_path, "Food101"))


def test_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    LAYOUTS["Food101"].make(tmp_path / "data")
    assert len(build_dataset(data_config("~/data", "Food101")).test) == 6


@pytest.mark.parametrize(
    "content", ["[]", '{"train": []}', '{"train": [["a.jpg", 0]], "val": [], "test": []}']
)
def test_malformed_split_file(content, tmp_path):
    LAYOUTS["Food101"].make(tmp_path)
    (tmp_path / "food-101/split_zhou_Food101.json").write_text(content)
    with pytest.raises(UsageError, match=r"split_zhou_Food101.json' is not valid.*it must contain"):
        build_dataset(data_config(tmp_path, "Food101"))


@pytest.mark.parametrize("part", ["train", "test"])
def test_empty_part(part, tmp_path):
    split = LAYOUTS["Food101"].make(tmp_path)
    (tmp_path / "food-101/split_zhou_Food101.json").write_text(json.dumps({**split, part: []}))
    with pytest.raises(UsageError, match=rf"Food101: the {part} split has no images"):
        build_dataset(data_config(tmp_path, "Food101"))


def test_paths_with_backslashes(tmp_path):
    split = LAYOUTS["Food101"].make(tmp_path)
    before = build_dataset(data_config(tmp_path, "Food101"))
    windows = {
        part: [[path.replace("/", "\\"), label, name] for path, label, name in entries]
        for part, entries in split.items()
    }
    (tmp_path / "food-101/split_zhou_Food101.json").write_text(json.dumps(windows))
    after = build_dataset(data_config(tmp_path, "Food101"))
    assert [item.impath for item in after.test] == [item.impath for item in before.test]


def test_name_with_a_backslash(tmp_path):
    split = LAYOUTS["Food101"].make(tmp_path)
    path, label, name = split["test"][0]
    images = tmp_path / "food-101/images"
    (images / path).rename(images / "a\\b.jpg")
    split["test"][0] = ["a\\b.jpg", label, name]
    (tmp_path / "food-101/split_zhou_Food101.json").write_text(json.dumps(split))
    assert build_dataset(data_config(tmp_path, "Food101")).test[0].impath == str(
        images / "a\\b.jpg"
    )


@pytest.mark.parametrize("path", ["../secret.jpg", "a/../../secret.jpg", "/etc/a.jpg", "C:\\a.jpg"])
def test_paths_that_leave_the_image_folder(path, tmp_path):
    split = LAYOUTS["Food101"].make(tmp_path)
    (tmp_path / "food-101/secret.jpg").touch()
    split["val"][0][0] = path
    (tmp_path / "food-101/split_zhou_Food101.json").write_text(json.dumps(split))
    with pytest.raises(
        UsageError, match=r"Food101.json lists the image .*not below .*images: paths"
    ):
        build_dataset(data_config(tmp_path, "Food101"))


@pytest.mark.parametrize("path", ["", "a\0b.jpg", "a\nb.jpg", "x" * 5000, "caf\udce9.jpg"])
def test_names_of_missing_images_fit_into_one_line(path, tmp_path):
    split = LAYOUTS["Food101"].make(tmp_path)
    split["val"][0][0] = path
    (tmp_path / "food-101/split_zhou_Food101.json").write_text(json.dumps(split))
    with pytest.raises(UsageError) as error:
        build_dataset(data_config(tmp_path, "Food101"))
    text = str(error.value)
    assert text.isprintable()
    assert len(text) < 1000


def test_class_without_training_images(tmp_path):
    split = LAYOUTS["Food101"].make(tmp_path)
    split["train"] = [entry for entry in split["train"] if entry[2] != "baklava"]
    (tmp_path / "food-101/split_zhou_Food101.json").write_text(json.dumps(split))
    with pytest.raises(UsageError, match=r"classes without training images \(baklava\)"):
        build_dataset(data_config(tmp_path, "Food101"))


def rewrite_split(root, change):
    """Create Food101 with `change` applied to the entries [path, label, name] of its split."""
    split = LAYOUTS["Food101"].make(root)
    split = {part: [change(part, *entry) for entry in entries] for part, entries in split.items()}
    (root / "food-101/split_zhou_Food101.json").write_text(json.dumps(split))


@pytest.mark.parametrize("classes", ["all", "base"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda _, path, label, name: [path, 5 + 2 * label, name],
            r"3 classes .*labels 5, 7, 9.* before 5 \(.*\) there is no 0",
        ),
        (
            lambda _, path, label, name: [path, label - 1, name],
            r"Expected int >= 0 - at \$\.train\[0\]\[1\]",
        ),
        (
            lambda part, path, label, name: [path, label, name + part],
            r"label 0 has the class names '.*train' and '.*val' \(.*jpg\), but only one",
        ),
        (
            lambda _, path, label, name: [path, label, label],
            r"Expected str, got int - at \$\.train\[0\]\[2\]",
        ),
        (
            lambda _, path, label, name: [path, label + 0.5, name],
            r"Expected int, got float - at \$\.train\[0\]\[1\]",
        ),
        (
            lambda _, path, label, name: [path, str(label), name],
            r"Expected int, got str - at \$\.train\[0\]\[1\]",
        ),
        (
            lambda _, path, label, name: [path, label > 0, name],
            r"Expected int, got bool - at \$\.train\[0\]\[1\]",
        ),
    ],
)
def test_inconsistent_labels_and_names(tmp_path, change, message, classes):
    rewrite_split(tmp_path, change)
    with pytest.raises(UsageError, match=message):
        build_dataset(data_config(tmp_path, "Food101", {"DATASET.SUBSAMPLE_CLASSES": classes}))


def test_images_in_both_train_and_test_are_counted(tmp_path, capsys):
    split = LAYOUTS["Food101"].make(tmp_path)
    split["test"][:2] = split["train"][:2]
    (tmp_path / "food-101/split_zhou_Food101.json").write_text(json.dumps(split))
    build_dataset(data_config(tmp_path, "Food101"))
    assert "warning: 2 of the 6 test images of Food101 are also in the training split" in (
        capsys.readouterr().out
    )
