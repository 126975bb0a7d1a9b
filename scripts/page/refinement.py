"""What the texts read from the cache, and what the refinement changes."""

import math
from typing import Any

import numpy as np

from .cache import absent
from .figures import heatmap
from .run import Run
from .scoring import Scores
from .section import Section, omitted

__all__ = ["reading", "refinement"]

SHOWN_CLASSES = 40  # rows of the figure
MOVED = 10  # classes in the table
VERSIONS = ("model", "plain", "mean", "zero")  # of scripts.page.read.versions


def reading(run: Run, scores: Scores) -> Section:
    """Return the weights over the entries, their entropy, and the class-dependent share of R."""
    meter = scores.read
    if meter is None:
        return omitted(absent(run))
    weights = np.array(meter.mean("weights"))  # (C, M)
    entropies = np.array(meter.mean("entropy"))
    size = weights.shape[1]
    relative = weights * size
    rows = [
        {
            "class": name,
            "entropy": float(h),
            "entries_used": math.exp(h),
            "smallest": float(row.min()),
            "largest": float(row.max()),
            "largest_entry": int(row.argmax()) + 1,
            "weights": (row / size).tolist(),
        }
        for name, h, row in zip(run.classes, entropies, relative, strict=True)
    ]
    numbers: dict[str, Any] = {
        "classes": rows,
        "size": size,
        "scale": meter.refiner.cache.scale,
        "max_entropy": math.log(size),
        "mean_entropy": float(entropies.mean()),
        "weight_times_entries": {
            "min": size * meter.extremes["weight_min"],
            "max": size * meter.extremes["weight_max"],
        },
        "class_dependent_share": meter.mean("share"),
        "texts": meter.count,
    }
    if len(run.classes) > 1:
        numbers["read_cosine"] = {
            "mean": meter.mean("read_cosine"),
            "min": meter.extremes["cosine_min"],
            "max": meter.extremes["cosine_max"],
        }
    label = "Weights over the entries of the cache, a row for each class"
    shown = relative[:SHOWN_CLASSES]
    figure = heatmap(
        shown.tolist(), run.classes[:SHOWN_CLASSES], float(shown.min()), float(shown.max()), label
    )
    numbers["shown"] = len(shown)
    return Section(numbers=numbers, pictures={"weights": figure})


def refinement(run: Run, scores: Scores) -> Section:
    """Return the accuracy with T, T' and changed reads, and the classes that moved most."""
    if run.classifier.model.refiner is None:
        return omitted(f"{run.classifier.method} has no TextRefiner, so T' = T.")
    labels, model = scores.labels, scores.predictions["model"]
    rows = [
        {
            "version": key,
            "accuracy": 100 * float((scores.predictions[key] == labels).mean()),
            "changed": int((scores.predictions[key] != model).sum()),
            "newly_wrong": int(((model == labels) & (scores.predictions[key] != labels)).sum()),
            "newly_right": int(((model != labels) & (scores.predictions[key] == labels)).sum()),
        }
        for key in VERSIONS
    ]
    numbers: dict[str, Any] = {"versions": rows, "images": len(labels)}
    numbers["alpha"] = run.classifier.model.refiner.alpha
    if scores.read is not None:
        numbers |= _moved(run, scores)
    return Section(numbers=numbers)


def _moved(run: Run, scores: Scores) -> dict[str, Any]:
    """Return how far T' is from T, in all and for each class."""
    meter: Any = scores.read
    change, cosine = meter.mean("change"), meter.mean("text_cosine")
    rows = []
    for c, name in enumerate(run.classes):
        inside = scores.labels == c
        accuracy: dict[str, float | None] = {"plain": None, "model": None}
        if inside.any():
            for key in accuracy:
                accuracy[key] = 100 * float((scores.predictions[key][inside] == c).mean())
        rows.append({"class": name, "change": change[c], "cosine": cosine[c], **accuracy})
    rows.sort(key=lambda row: -row["change"])
    return {
        "classes": rows,
        "shown": min(MOVED, len(rows)),
        "mean_change": float(np.mean(change)),
        "class_dependent_change": meter.mean("change_share"),
    }
