"""Classify the test images once, with the model as it is and with changes to its refinement."""

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dassl.data.data_manager import build_data_loader
from dassl.logit_check import LogitCheck
from dassl.utils.tools import is_terminal
from trainers.losses import class_logits
from trainers.refiner import full_precision

from .reads import RANDOM_SEED, ReadMeter, versions
from .records import ClassRead, Reading, Replacement
from .run import Run

__all__ = ["Scores", "batches", "progress", "replacements", "score", "statistics"]

Item = TypeVar("Item")


@dataclass
class Scores:
    """The results for N test images and C compared classes.

    logits: (N, C); labels: (N,), positions in ``run.classes``; paths: N.
    predictions: (N,) for each version of the refinement (`scripts.probing.reads.versions`); empty
        without a refiner.
    read: what the texts read from the cache; None without a refiner or a cache.
    """

    logits: np.ndarray
    labels: np.ndarray
    paths: list[str]
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    read: ReadMeter | None = None

    @cached_property
    def probabilities(self) -> np.ndarray:
        """The softmax of the logits, (N, C)."""
        shifted = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The position of the likeliest class, (N,)."""
        return self.logits.argmax(axis=1)


def progress(items: Iterable[Item], total: int, title: str) -> "tqdm[Item]":
    """Return a progress bar on stderr, which is disabled if stderr is not a terminal."""
    hidden = not is_terminal(sys.stderr)
    return tqdm(items, total=total, desc=title, unit="batch", leave=False, disable=hidden)


def batches(run: Run, images: list[Any], title: str) -> Iterator[dict[str, Any]]:
    """Yield batches of images under a progress bar: ``img`` (B, 3, H, W), ``label``, ``impath``."""
    loader = build_data_loader(
        run.cfg,
        data_source=images,
        batch_size=run.classifier.batch_size,
        tfm=run.classifier.transform,
        is_train=False,
    )
    return iter(progress(loader, len(loader), f"{run.name}: {title}"))


@torch.no_grad()
def score(run: Run, seed: int = RANDOM_SEED) -> Scores:
    """Return the results of the run's model for its test images.

    Args:
        seed: of the random rows, see `scripts.probing.reads.versions`.

    Raises:
        UsageError: logits are NaN or infinite; the message names the image.
    """
    model, columns = run.classifier.model, run.columns
    learner, refiner = model.learner, model.refiner
    device = run.classifier.device
    position = {label: i for i, label in enumerate(columns)}
    meter = None
    if refiner is not None and len(refiner.cache.entries):
        meter = ReadMeter(refiner)
    fixed = None

    def texts(features: Tensor) -> dict[str, Tensor]:
        """Return the text features of each version, and add T to the statistics of the read."""
        text = learner.encode_text(features)[..., columns, :]
        if meter is not None:
            meter.add(text)
        return {"model": text} if refiner is None else versions(refiner, text, seed)

    check = LogitCheck()
    logits, labels, paths = [], [], []
    predictions: dict[str, list[Tensor]] = {}
    for batch in batches(run, run.test, "test images"):
        tokens = model.tokens(batch["img"].to(device), local=False)
        features = learner.image_features(tokens)
        if fixed is None or learner.text_per_image:
            fixed = texts(features)
        with full_precision(features):
            found = {
                name: class_logits(features, text, learner.logit_scale).float().cpu()
                for name, text in fixed.items()
            }
        check.add(found["model"], batch)
        logits.append(found["model"])
        labels += [position[label] for label in batch["label"].tolist()]
        paths += batch["impath"]
        if refiner is not None:
            for name, values in found.items():
                predictions.setdefault(name, []).append(values.argmax(dim=1))
    check.check()
    return Scores(
        torch.cat(logits).numpy(),
        np.array(labels),
        paths,
        {name: torch.cat(parts).numpy() for name, parts in predictions.items()},
        meter,
    )


def replacements(scores: Scores) -> list[Replacement]:
    """Return accuracy and changed predictions of each version of the refinement, as trained first.

    Without a refiner there is none.
    """
    labels, found = scores.labels, []
    for name, predictions in scores.predictions.items():
        model, right = scores.predictions["model"] == labels, predictions == labels
        found.append(
            Replacement(
                version=name,
                accuracy=100 * float(right.mean()),
                changed=int((predictions != scores.predictions["model"]).sum()),
                newly_wrong=int((model & ~right).sum()),
                newly_right=int((~model & right).sum()),
            )
        )
    return found


def statistics(meter: ReadMeter, classes: list[str]) -> Reading:
    """Return what the texts of ``classes`` read, in the order of the rows of T."""
    size, many = len(meter.refiner.cache.entries), len(classes) > 1
    most, entropies = math.log(size), meter.mean("entropy")
    rows = [
        ClassRead(name=name, entropy=h, relative_entropy=h / most if most else None)
        for name, h in zip(classes, entropies, strict=True)
    ]
    mean = sum(entropies) / len(classes)
    return Reading(
        texts=meter.count,
        weight_min=size * meter.extremes["weight_min"],
        weight_max=size * meter.extremes["weight_max"],
        mean_entropy=mean,
        max_entropy=most,
        relative_entropy=mean / most if most else None,
        share=meter.mean("share"),
        added_share=meter.mean("added_share") if meter.adds else None,
        cosine_min=meter.extremes["cosine_min"] if many else None,
        cosine_mean=meter.mean("read_cosine") if many else None,
        cosine_max=meter.extremes["cosine_max"] if many else None,
        classes=rows,
    )
