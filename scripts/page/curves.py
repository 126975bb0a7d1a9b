"""Training curves from the TensorBoard files of a run."""

import logging
import math
from pathlib import Path

import numpy as np

from scripts.probing.run import Run

from .figures import curve
from .section import Section, omitted

__all__ = ["curves", "read_scalars", "thinned"]

FOLDER = "tensorboard"
POINTS = 300  # of a curve, at most
FIRST = ("train/loss", "train/acc")  # the order of the figures: these, then by name, then the rest
LAST = ("train/lr",)

Points = list[tuple[int, float]]


def read_scalars(folder: Path) -> dict[str, Points]:
    """Return tag -> (step, value) of all event files in a folder; {} if there are none.

    Of a step that a resumed run has repeated, the value of the later file counts. Values that are
    not finite, which other trainers may write, are left out.
    """
    # Imported here because it takes a second.
    from tensorboard.backend.event_processing import (  # type: ignore[import-untyped]
        event_accumulator,
    )

    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    if not any(folder.glob("events.out.tfevents.*")):
        return {}
    events = event_accumulator.EventAccumulator(str(folder), {event_accumulator.SCALARS: 0})
    events.Reload()
    found: dict[str, Points] = {}
    for tag in events.Tags()[event_accumulator.SCALARS]:
        values = {event.step: event.value for event in events.Scalars(tag)}
        values = {step: value for step, value in values.items() if math.isfinite(value)}
        found[tag] = [(step, value) for step, value in sorted(values.items())]
    return found


def thinned(points: Points, limit: int = POINTS) -> Points:
    """Return at most ``limit`` points at even distances, with the first and the last one."""
    if len(points) <= limit:
        return points
    return [points[i] for i in np.linspace(0, len(points) - 1, limit).round().astype(int)]


def _order(tag: str) -> tuple[int, str]:
    if tag in FIRST:
        return FIRST.index(tag), tag
    return (9 if tag in LAST else 5 if tag.startswith("train/") else 7), tag


def curves(run: Run) -> Section:
    """Return the curves of all losses, of the accuracy and of the learning rate."""
    if run.classifier.epoch is None and not run.classifier.checkpoint:
        return omitted(f"{run.classifier.method} is not trained, so there are no curves.")
    folder = run.model_folder / FOLDER
    found = read_scalars(folder)
    # A test after the training has one point, which the page shows as the accuracy.
    shown = {tag: found[tag] for tag in sorted(found, key=_order) if len(found[tag]) > 1}
    if not shown:
        return omitted(f"There are no curves of a training in {folder}.")
    numbers, pictures = [], []
    for tag, points in shown.items():
        part, name = tag.split("/", 1) if "/" in tag else ("", tag)
        some = thinned(points)
        numbers.append({"tag": tag, "recorded": len(points), "points": some})
        title = name if part == "train" else tag
        pictures.append(curve(title, some, "step" if part == "train" else "epoch"))
    return Section(numbers={"curves": numbers}, pictures={"curves": pictures})
