"""What the texts read from the cache, and what the refinement changes."""

import math
from typing import Any

import msgspec
import numpy as np

from scripts.probing.entries import absent
from scripts.probing.reads import RANDOM_SEED, VERSIONS
from scripts.probing.run import Run
from scripts.probing.scoring import Scores, replacements, statistics

from .figures import heatmap
from .section import Section, omitted

__all__ = ["reading", "refinement"]

SHOWN_CLASSES = 40  # rows of the figure
MOVED = 10  # classes in the table


def reading(run: Run, scores: Scores) -> Section:
    """Return the weights over the entries, their entropy, and the class-dependent share of R."""
    meter = scores.read
    if meter is None:
        return omitted(absent(run))
    found = statistics(meter, run.classes)
    weights = np.array(meter.mean("weights"))  # (C, M)
    size = weights.shape[1]
    relative = weights * size
    rows = [
        {
            "class": read.name,
            "entropy": read.entropy,
            "entries_used": math.exp(read.entropy),
            "smallest": float(row.min()),
            "largest": float(row.max()),
            "largest_entry": int(row.argmax()) + 1,
            "weights": (row / size).tolist(),
        }
        for read, row in zip(found.classes, relative, strict=True)
    ]
    numbers: dict[str, Any] = {
        "classes": rows,
        "size": size,
        "scale": meter.refiner.cache.scale,
        "max_entropy": found.max_entropy,
        "mean_entropy": found.mean_entropy,
        "weight_times_entries": {"min": found.weight_min, "max": found.weight_max},
        "class_dependent_share": found.share,
        "added_share": found.added_share,
        "texts": found.texts,
    }
    if found.cosine_mean is not None:
        numbers["read_cosine"] = {
            "mean": found.cosine_mean,
            "min": found.cosine_min,
            "max": found.cosine_max,
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
    rows = [
        {**msgspec.to_builtins(row), "title": VERSIONS[row.version]} for row in replacements(scores)
    ]
    numbers: dict[str, Any] = {"versions": rows, "images": len(scores.labels)}
    numbers |= {"alpha": run.classifier.model.refiner.alpha, "seed": RANDOM_SEED}
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
