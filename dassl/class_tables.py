"""Results of each class, as tables with a row for every class of the class list.

per_class.json, per_class.csv     images, correct predictions and accuracy of each class
cmat.pt, cmat.json, cmat.csv      confusion matrix: shares of each true class, and counts
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from .utils.errors import UsageError
from .utils.tools import PathLike, atomic_path

PER_CLASS, CONFUSIONS = "per_class", "cmat"  # file names without suffix


class ClassResult(NamedTuple):
    """Tested images of a class, and how many were predicted correctly."""

    label: int
    name: str
    images: int
    correct: int

    @property
    def accuracy(self) -> float | None:
        """The accuracy in percent; None without images."""
        return 100.0 * self.correct / self.images if self.images else None


def class_results(
    true: np.ndarray, pred: np.ndarray, names: Mapping[int, str]
) -> list[ClassResult]:
    """Return the results by label, given labels (N,), predictions (N,) and all class names."""
    rows = []
    for label in sorted(names):
        of_class = true == label
        correct = int((pred[of_class] == label).sum())
        rows.append(ClassResult(int(label), names[label], int(of_class.sum()), correct))
    return rows


def save_class_results(
    rows: Sequence[ClassResult], mean: float, split: str, folder: PathLike
) -> Path:
    """Write per_class.json and per_class.csv to ``folder``; return the path of the first."""
    keys = ("label", "class", "images", "correct", "accuracy")
    values = [(*row, row.accuracy) for row in rows]
    tables = [dict(zip(keys, row, strict=True)) for row in values]
    _save_csv(Path(folder, f"{PER_CLASS}.csv"), [keys, *values])
    path = Path(folder, f"{PER_CLASS}.json")
    _save_json(path, {"split": split, "mean_accuracy": mean}, "classes", tables)
    return path


def count_confusions(true: np.ndarray, pred: np.ndarray, names: Mapping[int, str]) -> np.ndarray:
    """Return counts (C, C): row i are the images of class i, column j those predicted as j.

    Raises:
        UsageError: a prediction is not one of the classes.
    """
    labels = np.array(sorted(names))
    unknown = sorted(set(np.unique(pred).tolist()) - set(labels.tolist()))
    if unknown:
        raise UsageError(
            f"the model predicts the label {unknown[0]}, but the class list has {len(names):,} "
            "names and none for it: the model was built for other classes than the dataset has"
        )
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(counts, (np.searchsorted(labels, true), np.searchsorted(labels, pred)), 1)
    return counts


def save_confusion_matrix(
    counts: np.ndarray, names: Mapping[int, str], split: str, folder: PathLike
) -> Path:
    """Write cmat.json and cmat.csv (counts) and cmat.pt to ``folder``; return the last path.

    Rows of cmat.pt (true classes) sum to 1, or to 0 for a class without images.
    """
    labels = [int(label) for label in sorted(names)]
    listed = [names[label] for label in labels]
    rows = counts.tolist()
    table = [
        ["true class", *listed],
        *([name, *row] for name, row in zip(listed, rows, strict=True)),
    ]
    _save_csv(Path(folder, f"{CONFUSIONS}.csv"), table)
    head = {"split": split, "labels": labels, "classes": listed}
    _save_json(Path(folder, f"{CONFUSIONS}.json"), head, "counts", rows)
    path = Path(folder, f"{CONFUSIONS}.pt")
    images = counts.sum(axis=1, keepdims=True)
    content = io.BytesIO()  # torch.save to a full disk would raise an error without a path
    torch.save(torch.from_numpy(counts / np.maximum(images, 1)), content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getvalue())
    return path


def _save_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write rows; None becomes an empty cell."""
    with (
        atomic_path(path) as temporary,
        # A folder's name, and so a class name, may contain bytes that are not UTF-8.
        open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        csv.writer(file, lineterminator="\n").writerows(rows)


def _save_json(path: Path, head: Mapping[str, Any], key: str, rows: Sequence[Any]) -> None:
    """Write the items of ``head``, and ``rows`` under ``key`` with one line for each."""
    start = ",\n ".join(f'"{name}": {json.dumps(value)}' for name, value in head.items())
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    with atomic_path(path) as temporary:
        temporary.write_text(f'{{\n {start},\n "{key}": [\n  {lines}\n ]\n}}\n', encoding="utf-8")
