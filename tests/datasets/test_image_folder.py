"""ImageFolder: your own images in class folders."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

import datasets  # noqa: F401  (registers the datasets)
from dassl.data import DataManager
from dassl.data.datasets import build_dataset
from dassl.utils import UsageError
from tests.toy_data import data_config, write_image

CLASSES = ["blue tit", "great_tit", "robin"]


def make_classes(folder: Path, images: int, classes=CLASSES) -> None:
    for label, name in enumerate(classes):
        for n in range(images):
            write_image(folder / name / f"{n}.png", seed=10 * label + n, size=8)


@pytest.fixture
def parts(tmp_path):
    for part, images in (("train", 5), ("val", 2), ("test", 3)):
        make_classes(tmp_path / part, images)
    return tmp_path


def test_train_val_and_test_folders(parts):
    dataset = build_dataset(data_config(parts, "ImageFolder"))
    assert dataset.classnames == CLASSES
    assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == (15, 6, 9)
    last = dataset.test[-1]
    assert (last.impath, last.label) == (str(parts / "test/robin/2.png"), 2)


def test_shots_and_base_classes(parts):
    options = {"DATASET.NUM_SHOTS": 2, "DATASET.SUBSAMPLE_CLASSES": "base"}
    for _ in range(2):  # drawn, then cached beside the folders
        dataset = build_dataset(data_config(parts, "ImageFolder", options))
        assert dataset.classnames == CLASSES[:2]
        assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == (4, 4, 6)


def test_validation_is_optional(parts):
    (parts / "val").rename(parts / "unused")
    dataset = build_dataset(data_config(parts, "ImageFolder", {"DATASET.NUM_SHOTS": 2}))
    assert not dataset.val
    assert len(dataset.train_x) == 6


def test_labels_follow_the_training_folders(parts):
    for path in (parts / "test/blue tit").iterdir():
        path.unlink()
    (parts / "test/blue tit").rmdir()
    dataset = build_dataset(data_config(parts, "ImageFolder"))
    assert {(item.label, item.classname) for item in dataset.test} == {
        (1, "great_tit"),
        (2, "robin"),
    }


def test_class_missing_from_train(parts):
    make_classes(parts / "test", 1, ["wren"])
    with pytest.raises(UsageError, match=r"test has classes missing in train/: wren"):
        build_dataset(data_config(parts, "ImageFolder"))


@pytest.mark.parametrize("name", ["zebra", "bird"])  # the last one, and one between others
@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_empty_class_folder_is_named(part, name, parts):
    make_classes(parts / "train", 1, [name])
    if part == "train":
        (parts / "train" / name / "0.png").unlink()
    else:
        (parts / part / name).mkdir()
    with pytest.raises(UsageError, match=rf"no images in the class folder .*/{part}/{name}: add"):
        build_dataset(data_config(parts, "ImageFolder"))


@pytest.mark.parametrize("name", ["__MACOSX", ".ipynb_checkpoints"])
def test_junk_folders_are_skipped_and_named(name, parts, capsys):
    make_classes(parts / "train", 1, [name])
    dataset = build_dataset(data_config(parts, "ImageFolder"))
    assert dataset.classnames == CLASSES
    assert f"Skipping folders in {parts}/train that are not classes: {name}" in (
        capsys.readouterr().out
    )


def test_classes_missing_from_test_are_named(parts, capsys):
    make_classes(parts / "train", 1, ["wren"])
    build_dataset(data_config(parts, "ImageFolder"))
    log = capsys.readouterr().out
    for part in ("val", "test"):
        assert f"warning: {parts}/{part} has no folders of 1 of the 4 classes" in log
    assert "(wren): they are not measured" in log


def test_train_without_class_folders(parts):
    for path in (parts / "train").rglob("*.png"):
        path.rename(parts / "train" / f"{path.parent.name} {path.name}")
    for name in CLASSES:
        (parts / "train" / name).rmdir()
    with pytest.raises(UsageError, match=r"train has no class folders: put the training images"):
        build_dataset(data_config(parts, "ImageFolder"))


def test_a_folder_named_like_an_image(parts):
    (parts / "train/robin/x.jpg").mkdir()
    with pytest.raises(UsageError, match=r"train/robin/x.jpg' \(it is a folder\)"):
        DataManager(data_config(parts, "ImageFolder"))


def test_display_name_is_that_of_the_folder(parts, capsys):
    manager = DataManager(data_config(parts, "ImageFolder"))
    assert manager.dataset.display_name == parts.name
    assert f"Dataset    {parts.name}" in capsys.readouterr().out


def test_other_files_are_skipped_and_logged(parts, capsys):
    (parts / "train/robin/notes.txt").write_text("")
    (parts / "train/robin/.hidden.png").write_text("")
    dataset = build_dataset(data_config(parts, "ImageFolder"))
    assert len(dataset.train_x) == 15
    assert "Skipping 1 files in" in capsys.readouterr().out


def test_missing_folder(tmp_path):
    with pytest.raises(UsageError, match=r"no image folder .*nowhere.*now '.*nowhere'"):
        build_dataset(data_config(tmp_path / "nowhere", "ImageFolder"))


def test_no_split_is_created_silently(tmp_path):
    make_classes(tmp_path, 10)
    with pytest.raises(UsageError) as error:
        build_dataset(data_config(tmp_path, "ImageFolder"))
    assert f"python -m datasets {tmp_path}" in str(error.value)
    assert "blue tit, great_tit, robin" in str(error.value)
    assert not (tmp_path / "split.json").exists()


def run_command(monkeypatch, *args):
    """Run ``python -m datasets`` with ``args`` in this process."""
    monkeypatch.setattr(sys, "argv", ["datasets", *map(str, args)])
    runpy.run_module("datasets", run_name="__main__")


def test_command_splits_class_folders(tmp_path, monkeypatch):
    make_classes(tmp_path, 10)
    (tmp_path / "split_fewshot").mkdir()
    run_command(monkeypatch, tmp_path, "--seed", 3)
    dataset = build_dataset(data_config(tmp_path, "ImageFolder"))
    assert dataset.classnames == CLASSES
    assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == (15, 6, 9)
    everything = {item.impath for item in [*dataset.train_x, *dataset.val, *dataset.test]}
    assert len(everything) == 30
    first = (tmp_path / "split.json").read_text()
    assert json.loads(first)["train"][0][2] == "blue tit"

    (tmp_path / "split.json").unlink()
    run_command(monkeypatch, tmp_path, "--seed", 3)
    assert (tmp_path / "split.json").read_text() == first


def assert_error(monkeypatch, capsys, folder, message, code=2):
    """Check that the command exits with this code and one line on stderr."""
    with pytest.raises(SystemExit) as stop:
        run_command(monkeypatch, folder)
    assert stop.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"error: .*{message}", line)


def test_command_reports_folders_that_it_cannot_split(tmp_path, monkeypatch, capsys):
    file = tmp_path / "file.txt"
    file.touch()
    for nothing in (tmp_path / "nope", file):
        assert_error(monkeypatch, capsys, nothing, f"{nothing} is not a folder: pass one with")
    assert_error(monkeypatch, capsys, tmp_path, "has no class folders")
    make_classes(tmp_path, 10)
    (tmp_path / "empty").mkdir()
    assert_error(monkeypatch, capsys, tmp_path, "empty has 0 images: too few to split")
    assert not (tmp_path / "split.json").exists()


def test_command_reports_write_errors(tmp_path, monkeypatch, capsys):
    make_classes(tmp_path, 10)

    def denied(*args):
        raise PermissionError(13, "Permission denied", "split.json")

    monkeypatch.setattr("datasets.split.save_split", denied)
    message = r"'split\.json' cannot be used \(permission denied\)"
    assert_error(monkeypatch, capsys, tmp_path, message, code=74)


def test_command_does_not_overwrite(tmp_path, monkeypatch, capsys):
    (tmp_path / "split.json").write_text("{}")
    assert_error(monkeypatch, capsys, tmp_path, r"split\.json exists: remove it first")
    assert (tmp_path / "split.json").read_text() == "{}"
