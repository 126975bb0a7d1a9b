"""Calibration: whether the confidence of predictions agrees with their accuracy."""

from typing import Any, NamedTuple

import numpy as np

from scripts.probing.run import Run
from scripts.probing.scoring import Scores

from .figures import reliability_diagram
from .section import Section

__all__ = ["Bin", "calibration", "expected_error", "reliability_bins"]

BINS = 15  # equal widths; the number of Guo et al. (2017), arXiv 1706.04599


class Bin(NamedTuple):
    """The predictions with a confidence in (low, high]; None without predictions."""

    low: float
    high: float
    images: int
    accuracy: float | None
    confidence: float | None


def reliability_bins(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Return ``bins`` intervals of equal width with their mean accuracy and confidence.

    Args:
        confidence: (N,) in [0, 1]; 0 belongs to the first interval.
        correct: (N,) booleans.
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    rows = []
    for i in range(bins):
        inside = place == i
        images = int(inside.sum())
        accuracy = float(correct[inside].mean()) if images else None
        mean = float(confidence[inside].mean()) if images else None
        rows.append(Bin(i / bins, (i + 1) / bins, images, accuracy, mean))
    return rows


def expected_error(bins: list[Bin]) -> float:
    """Return the ECE: |accuracy - confidence|, averaged over the images."""
    total = sum(row.images for row in bins)
    return (
        sum(
            row.images * abs(row.accuracy - row.confidence)
            for row in bins
            if row.accuracy is not None and row.confidence is not None
        )
        / total
    )


def calibration(run: Run, scores: Scores) -> Section:
    """Return bins, ECE, largest error and the reliability diagram."""
    confidence = scores.probabilities.max(axis=1)
    correct = scores.predicted == scores.labels
    bins = reliability_bins(confidence, correct)
    gaps = [abs(b.accuracy - b.confidence) for b in bins if b.accuracy is not None and b.confidence]
    numbers: dict[str, Any] = {
        "bins": [row._asdict() for row in bins],
        "ece": expected_error(bins),
        "largest_gap": max(gaps),
        "mean_confidence": float(confidence.mean()),
        "accuracy": float(correct.mean()),
        "temperature": run.classifier.logit_scale**-1,
    }
    return Section(numbers=numbers, pictures={"diagram": reliability_diagram(bins)})
