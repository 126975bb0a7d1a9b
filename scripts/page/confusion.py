"""The confusion matrix, and the pairs of classes that are confused most often, with images."""

from typing import Any

import numpy as np

from dassl.class_tables import count_confusions
from scripts.probing.run import Run
from scripts.probing.scoring import Scores

from .section import Section, omitted
from .thumbnails import tensor_of, thumbnail

__all__ = ["confusions", "most_confused", "shown_classes"]

SHOWN_CLASSES = 30  # rows and columns of the matrix
PAIRS = 6
EXAMPLES = 4  # images of each pair


def most_confused(counts: np.ndarray, limit: int = PAIRS) -> list[tuple[int, int, int]]:
    """Return (true, predicted, images) of the largest entries off the diagonal of (C, C)."""
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    pairs = (divmod(int(i), len(counts)) for i in order)
    return [(i, j, int(wrong[i, j])) for i, j in pairs if wrong[i, j]]


def shown_classes(counts: np.ndarray, limit: int = SHOWN_CLASSES) -> list[int]:
    """Return the at most ``limit`` classes with the most errors, in the order of the labels.

    An error counts for the true and for the predicted class.
    """
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    errors = wrong.sum(axis=0) + wrong.sum(axis=1)
    return sorted(np.argsort(-errors, kind="stable")[:limit].tolist())


def confusions(run: Run, scores: Scores) -> Section:
    """Return the matrix of counts, and the most confused pairs with example images."""
    if len(run.classes) < 2:
        return omitted("There is one class only, so nothing can be confused.")
    true, predicted = scores.labels, scores.predicted
    counts = count_confusions(true, predicted, dict(enumerate(run.classes)))
    confidence = scores.probabilities.max(axis=1)
    pairs: list[dict[str, Any]] = []
    pictures: list[list[str]] = []
    for i, j, images in most_confused(counts):
        found = np.flatnonzero((true == i) & (predicted == j))
        surest = found[np.argsort(-confidence[found], kind="stable")][:EXAMPLES]
        pairs.append(
            {
                "true": run.classes[i],
                "predicted": run.classes[j],
                "images": images,
                "of": int(counts[i].sum()),
                "reverse": int(counts[j, i]),
                "examples": [
                    {"path": scores.paths[k], "confidence": float(confidence[k])} for k in surest
                ],
            }
        )
        pictures.append([thumbnail(run, tensor_of(run, scores.paths[k])) for k in surest])
    shown = shown_classes(counts)
    return Section(
        numbers={
            "classes": run.classes,
            "counts": counts.tolist(),
            "shown": shown,
            "pairs": pairs,
        },
        pictures={"pairs": pictures},
    )
