"""Accuracy, in all and of each class."""

from typing import Any

import numpy as np

from dassl.class_tables import class_results
from scripts.probing.run import Run
from scripts.probing.scoring import Scores

from .section import Section

__all__ = ["accuracy"]


def accuracy(run: Run, scores: Scores) -> Section:
    """Return the accuracy, that of each class, and each class's most frequent error."""
    true, predicted = scores.labels, scores.predicted
    confidence = scores.probabilities.max(axis=1)
    rows: list[dict[str, Any]] = []
    for result in class_results(true, predicted, dict(enumerate(run.classes))):
        of_class = true == result.label
        wrong = predicted[of_class & (predicted != true)]
        counts = np.bincount(wrong, minlength=len(run.classes))
        rows.append(
            {
                "class": result.name,
                "images": result.images,
                "correct": result.correct,
                "accuracy": result.accuracy,
                "confidence": float(confidence[of_class].mean()) if result.images else None,
                "predicted_instead": run.classes[int(counts.argmax())] if len(wrong) else None,
                "times": int(counts.max()) if len(wrong) else 0,
            }
        )
    tested = [row["accuracy"] for row in rows if row["images"]]
    correct = int((true == predicted).sum())
    recorded = run.records["result"]
    complete = len(run.test) == run.test_size
    numbers = {
        "images": len(true),
        "available_images": run.test_size,
        "correct": correct,
        "accuracy": 100 * correct / len(true),
        "mean_class_accuracy": float(np.mean(tested)),
        "recorded_accuracy": recorded.get("accuracy") if complete else None,
        "classes": rows,
    }
    return Section(numbers=numbers)
