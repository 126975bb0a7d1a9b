"""Your own images from CSV and JSONL lists, with readable class names."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dassl.data.datasets import build_dataset
from dassl.utils import UsageError
from datasets.image_folder import ImageFolder
from datasets.own_split import write_split
from tests.toy_data import data_config, write_image

CLASSES = ("robin", "blue tit")
PARTS = ("train", "train", "val", "test")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(16):
        write_image(tmp_path / f"photos/{number}.png", seed=number, size=8)
    return tmp_path


def rows(split: bool) -> list[tuple[str, ...]]:
    lines = [(f"photos/{n}.png", CLASSES[n % 2], PARTS[n // 2 % 4]) for n in range(16)]
    return lines if split else [line[:2] for line in lines]


def write_csv(path: Path, split: bool, separator: str = ",") -> None:
    header = ("path", "class", "split") if split else ("path", "class")
    path.write_text("\n".join(separator.join(row) for row in (header, *rows(split))) + "\n")


def write_jsonl(path: Path, split: bool) -> None:
    keys = ("path", "class", "split")
    lines = [json.dumps(dict(zip(keys, row, strict=False))) for row in rows(split)]
    path.write_text("\n".join(lines) + "\n")


def build(root: Path, **options: Any) -> Any:
    return build_dataset(data_config(root, "ImageFolder", options))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_with_splits(folder: Path, separator: str) -> None:
    write_csv(folder / "images.csv", split=True, separator=separator)
    dataset = build(folder)
    assert dataset.classnames == ["blue tit", "robin"]
    assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == (8, 4, 4)
    first = dataset.train_x[0]
    assert (first.impath, first.label) == (str(folder / "photos/0.png"), 1)


def test_jsonl_equals_csv(folder: Path) -> None:
    write_csv(folder / "a.csv", split=True)
    write_jsonl(folder / "b.jsonl", split=True)
    found = [build(folder / name) for name in ("a.csv", "b.jsonl")]
    for part in ("train_x", "val", "test"):
        assert [vars(item) for item in getattr(found[0], part)] == [
            vars(item) for item in getattr(found[1], part)
        ]
    assert [dataset.display_name for dataset in found] == ["a", "b"]


@pytest.mark.parametrize("write", [write_csv, write_jsonl])
def test_split_is_drawn_per_class_and_recorded(folder: Path, write: Any) -> None:
    path = folder / ("images.csv" if write is write_csv else "images.jsonl")
    write(path, split=False)
    with pytest.raises(UsageError, match=rf"run python -m datasets split {path}$"):
        build(folder)
    write_split(str(folder), seed=3)
    first = (folder / "images.split.json").read_text()
    dataset = build(folder)
    for part, count in (("train_x", 4), ("val", 2), ("test", 2)):
        assert Counter(item.classname for item in getattr(dataset, part)) == {
            "robin": count,
            "blue tit": count,
        }
    (folder / "images.split.json").unlink()
    write_split(str(path), seed=3)
    assert (folder / "images.split.json").read_text() == first


def test_split_of_another_version_of_the_list_is_refused(folder: Path) -> None:
    path = folder / "images.csv"
    write_csv(path, split=False)
    write_split(str(folder), seed=1)
    path.write_text(path.read_text().replace("photos/0.png,robin", "photos/0.png,blue tit"))
    with pytest.raises(UsageError, match=r"images\.split\.json was drawn from other images or"):
        build(folder)


def test_list_with_splits_is_not_split_again(folder: Path) -> None:
    write_csv(folder / "images.csv", split=True)
    with pytest.raises(UsageError, match="has its own split: remove the column split"):
        write_split(str(folder), seed=1)


WRONG_CSV = {
    "a,b\n": r"images\.csv, line 1 must name the columns path, class and",
    "path,path,class\n": "each once",
    "path,class\nphotos/0.png\n": r"line 2 has 1 values, but the header has 2 columns",
    "path,class\n\nphotos/0.png,\n": r"line 3 is not valid \(Expected str of length >= 1 - at \$\.",
    "path,class,split\nphotos/0.png,a,trian\n": r"line 2 is not valid \(Invalid enum value 'trian'",
    "path,class\nphotos/0.png,a\nphotos/x.png,a\n": r"line 3 lists photos/x\.png, "
    r"which is not in .* \(1 of 2 images are missing\)",
    "path,class\n../x.png,a\n": r"line 2 lists the image \.\./x\.png, which is not below",
    "path,class\n/etc/passwd,a\n": "which is not below",
    "path,class\nphotos/0.png,a\n./photos/0.png,b\n": r"in line 2 and again in line 3: remove one",
    'path,class\n"photos/0.png,a\n': r"line 2 is not valid CSV \(unexpected end of data\)",
    "path,class,split\nphotos/0.png,a,train\nphotos/1.png,a,\n": r"line 3 has no split, but other",
    "path,class,split\nphotos/0.png,a,train\n": "has no line with the split test",
    "path,class\n": "lists no images: add a line for each",
    "path,class,split\nphotos/0.png,a,train\nphotos/1.png,b,test\n": "classes without training im",
}


@pytest.mark.parametrize("content", WRONG_CSV)
def test_wrong_line_of_a_csv_is_named(folder: Path, content: str) -> None:
    (folder / "images.csv").write_text(content)
    with pytest.raises(UsageError, match=WRONG_CSV[content]) as error:
        write_split(str(folder), seed=1) if "split" not in content else build(folder)
    assert "\n" not in str(error.value)


WRONG_JSONL = {
    '{"path": "photos/0.png"}\n': r"images\.jsonl, line 1 is not valid \(Object missing required",
    '\n{"path": "photos/0.png", "class": 3}\n': r"line 2 is not valid \(Expected str, got int",
    "[1]\n": "line 1 is not valid",
    "{\n": "line 1 is not valid JSON",
    "": 'add a line for each, such as {"path"',
}


@pytest.mark.parametrize("content", WRONG_JSONL)
def test_wrong_line_of_a_jsonl_is_named(folder: Path, content: str) -> None:
    (folder / "images.jsonl").write_text(content)
    with pytest.raises(UsageError, match=WRONG_JSONL[content]):
        build(folder)


def test_other_encodings_are_refused(folder: Path) -> None:
    (folder / "images.csv").write_bytes("path,class\nphotos/0.png,Löwe\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"images\.csv is not a text file in UTF-8"):
        build(folder)


def test_two_sources_of_a_folder_are_refused(folder: Path) -> None:
    write_csv(folder / "images.csv", split=True)
    (folder / "split.json").write_text("{}")
    with pytest.raises(UsageError, match=r"has both images\.csv and split\.json: remove or rename"):
        build(folder)
    (folder / "split.json").unlink()
    write_jsonl(folder / "images.jsonl", split=True)
    with pytest.raises(UsageError, match=r"has both images\.csv and images\.jsonl: remove one"):
        build(folder)


def test_other_files_are_no_lists(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"is the file .*0\.png: set it to a folder, or to a list"):
        build(folder / "photos/0.png")


def test_class_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(folder / "images.csv", split=True)
    (folder / "classnames.json").write_text('{"robin": "European robin"}')
    dataset = build(folder, **{"DATASET.NUM_SHOTS": 1})
    assert dataset.classnames == ["blue tit", "European robin"]
    assert len(dataset.train_x) == 2
    assert "1 of 2 classes are renamed" in capsys.readouterr().out
    (folder / "classnames.json").unlink()  # the sample is read again, with the names of the list
    dataset = build(folder, **{"DATASET.NUM_SHOTS": 1})
    assert dataset.classnames == ["blue tit", "robin"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"robbin": "x"}', r"names 'robbin', which is not a class of .*did you mean 'robin'"),
        ('{"robin": ""}', r"classnames\.json' is not valid .*it must be like"),
        ("[]", "it must be like"),
    ],
)
def test_wrong_class_names(folder: Path, content: str, message: str) -> None:
    write_csv(folder / "images.csv", split=True)
    (folder / "classnames.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        build(folder)


def test_class_names_of_class_folders(folder: Path) -> None:
    for part in ("train", "test"):
        for name in CLASSES:
            write_image(folder / "own" / part / name / "0.png", seed=1, size=8)
    (folder / "own/classnames.json").write_text('{"robin": "redbreast"}')
    assert build(folder / "own").classnames == ["blue tit", "redbreast"]
    assert ImageFolder.dataset_dir == "."  # instances do not change the class
