"""A list of your own images: a CSV or JSONL file with the path, class and perhaps split of each.

    path,class,split
    photos/a.jpg,blue tit,train

    {"path": "photos/a.jpg", "class": "blue tit", "split": "train"}

Paths are relative to the folder of the file. Labels follow the sorted names of the classes.
"""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dassl.data.datasets import Datum
from dassl.utils import UsageError
from dassl.utils.schema import Record

from .split import PARTS, image_path, missing_images, read_split, split_items
from .text import shown

LIST_FILES = ("images.csv", "images.jsonl")  # found in a folder by these names
COLUMNS = ("path", "class", "split")
_SEPARATORS = ",;\t"  # of a CSV file; spreadsheets in some languages write semicolons
MAX_BYTES = 256 * 2**20
REMEDY = "remove one of them"

Name = Annotated[str, Meta(min_length=1)]


class Line(Record):
    """An image; ``split`` is empty if the list leaves the split to `python -m datasets split`."""

    path: Name
    classname: Name = msgspec.field(name="class")
    split: Literal["", "train", "val", "test"] = ""


def find_list(folder: str) -> str:
    """Return the path of the list in ``folder``, or "" if there is none.

    Raises:
        UsageError: there are several.
    """
    found = [name for name in LIST_FILES if os.path.isfile(os.path.join(folder, name))]
    if len(found) > 1:
        raise UsageError(f"{folder} has both {' and '.join(found)}: {REMEDY}")
    return os.path.join(folder, found[0]) if found else ""


def split_path(path: str) -> str:
    """Return the path of the split file that is drawn for the list ``path``."""
    return f"{os.path.splitext(path)[0]}.split.json"


def read_list_splits(path: str) -> dict[str, list[Datum]]:
    """Return the images of a list by "train", "val" and "test": by its own split, or a drawn one.

    Raises:
        UsageError: a line is wrong, or the list has no split and none has been drawn for it.
    """
    lines = read_list(path)
    if any(line.split for _, line in lines):
        return _listed_splits(path, lines)
    drawn = split_path(path)
    if not os.path.isfile(drawn):
        raise UsageError(
            f"{path} has no column split, and there is no {drawn}: to draw a split at random, run "
            f"python -m datasets split {path}"
        )
    folder = os.path.dirname(path)
    splits = dict(zip(PARTS, read_split(drawn, folder), strict=True))
    listed = {item.impath: item.classname for item in list_images(path)}
    if {i.impath: i.classname for items in splits.values() for i in items} != listed:
        raise UsageError(
            f"{drawn} was drawn from other images or classes than {path} has now: delete it and "
            f"run python -m datasets split {path}"
        )
    return splits


def split_list(path: str, p_trn: float, p_val: float) -> tuple[list[Datum], ...]:
    """Split the images of a list with Python's ``random``, class by class as class folders.

    Args:
        p_trn, p_val: fractions of training and validation images per class.

    Raises:
        UsageError: a line is wrong, the list has its own split, or a class has too few images.
    """
    lines = read_list(path)
    if any(line.split for _, line in lines):
        raise UsageError(f"{path} has its own split: remove the column split to draw another one")
    print(f"Splitting {path} into {p_trn:.0%} train, {p_val:.0%} val, and the rest test")
    by_class: dict[int, list[Datum]] = {}
    for item in list_images(path):
        by_class.setdefault(item.label, []).append(item)
    parts: tuple[list[Datum], ...] = ([], [], [])
    for label in sorted(by_class):
        items = by_class[label]
        name = f"{path}: the class {shown(items[0].classname)!r}"
        for part, some in zip(parts, split_items(items, p_trn, p_val, name), strict=True):
            part += some
    return parts


def list_images(path: str) -> list[Datum]:
    """Return the images of a list in its order; raise UsageError for a wrong line."""
    return _images(path, read_list(path))


def read_list(path: str) -> list[tuple[int, Line]]:
    """Return the lines of a list with their numbers, from 1.

    Raises:
        UsageError: the file is not text, or a line is wrong, which the message names.
    """
    if os.path.getsize(path) > MAX_BYTES:
        raise UsageError(f"{path} is larger than {MAX_BYTES:,} bytes: split it into several lists")
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            text = file.read()
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is not a text file in UTF-8 ({error.reason})") from error
    read = _csv_lines if path.lower().endswith(".csv") else _json_lines
    lines = list(read(path, text))
    if not lines:
        raise UsageError(f"{path} lists no images: add a line for each, such as {_example(path)}")
    _check_splits(path, lines)
    return lines


def _csv_lines(path: str, text: str) -> Iterator[tuple[int, Line]]:
    header = text.partition("\n")[0]
    separator = next((mark for mark in _SEPARATORS if mark in header), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns: list[str] = []
    try:
        for row in reader:
            words = [word.strip() for word in row]
            if not any(words):
                continue
            if not columns:
                columns = [word.lower() for word in words]
                _check_header(path, columns)
                continue
            if len(words) != len(columns):
                raise UsageError(
                    f"{path}, line {reader.line_num} has {len(words)} values, but the header has "
                    f"{len(columns)} columns: put a value with {separator!r} into double quotes"
                )
            values = dict(zip(columns, words, strict=True))
            known = {name: values[name] for name in COLUMNS if name in values}
            yield reader.line_num, _line(path, reader.line_num, known)
    except csv.Error as error:
        raise UsageError(
            f"{path}, line {reader.line_num} is not valid CSV ({error}): correct it"
        ) from error


def _check_header(path: str, columns: Sequence[str]) -> None:
    missing = [name for name in COLUMNS[:2] if name not in columns]
    if missing or len(set(columns)) < len(columns):
        raise UsageError(
            f"{path}, line 1 must name the columns path, class and, optionally, split, each once, "
            f"got {shown(', '.join(columns))}: add such a line"
        )


def _json_lines(path: str, text: str) -> Iterator[tuple[int, Line]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            content = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
            raise UsageError(
                f"{path}, line {number} is not valid JSON ({error}): it must be like "
                f"{_example(path)}"
            ) from error
        yield number, _line(path, number, content)


def _line(path: str, number: int, content: object) -> Line:
    try:
        return msgspec.convert(content, Line)
    except (msgspec.ValidationError, RecursionError) as error:
        reason = str(error).replace("`", "")
        raise UsageError(
            f"{path}, line {number} is not valid ({reason}): path and class are texts that are not "
            "empty, and split is train, val or test"
        ) from error


def _example(path: str) -> str:
    if path.lower().endswith(".csv"):
        return "photos/a.jpg,blue tit below the header path,class"
    return '{"path": "photos/a.jpg", "class": "blue tit"}'


def _check_splits(path: str, lines: Sequence[tuple[int, Line]]) -> None:
    """Raise UsageError if some lines have a split, but not all, or there is no test image."""
    named = {line.split for _, line in lines}
    if named == {""}:
        return
    if "" in named:
        number = next(number for number, line in lines if not line.split)
        raise UsageError(
            f"{path}, line {number} has no split, but other lines have one: write train, val or "
            "test into every line, or remove the column"
        )
    for part in ("train", "test"):
        if part not in named:
            raise UsageError(
                f"{path} has no line with the split {part}: add some, or remove the column split "
                "to draw one at random"
            )


def _listed_splits(path: str, lines: Sequence[tuple[int, Line]]) -> dict[str, list[Datum]]:
    splits: dict[str, list[Datum]] = {}
    for item, (_, line) in zip(_images(path, lines), lines, strict=True):
        splits.setdefault(line.split, []).append(item)
    return {part: splits[part] for part in PARTS if part in splits}


def _images(path: str, lines: Sequence[tuple[int, Line]]) -> list[Datum]:
    """Return an image for each line, in order; raise UsageError if one is missing or twice."""
    folder = os.path.dirname(path)
    labels = {name: k for k, name in enumerate(sorted({line.classname for _, line in lines}))}
    numbers: dict[str, int] = {}
    images = []
    for number, line in lines:
        full = os.path.normpath(image_path(folder, line.path, f"{path}, line {number}"))
        first = numbers.setdefault(full, number)
        if first != number:
            raise UsageError(
                f"{path} lists {shown(line.path)} in line {first} and again in line {number}: "
                f"{REMEDY}"
            )
        images.append(Datum(full, labels[line.classname], classname=line.classname))
    missing = missing_images(images)
    if missing:
        name = os.path.relpath(missing[0].impath, folder)
        raise UsageError(
            f"{path}, line {numbers[missing[0].impath]} lists {shown(name)}, which is not in "
            f"{folder} ({len(missing):,} of {len(images):,} images are missing): paths are "
            "relative to the folder of the list"
        )
    return images
