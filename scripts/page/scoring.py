"""Classify the test images once, with the model as it is and with changes to its refinement."""

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

from .read import ReadMeter, versions
from .run import Run

__all__ = ["Scores", "batches", "progress", "score"]

Item = TypeVar("Item")


@dataclass
class Scores:
    """The results for N test images and C compared classes.

    logits: (N, C); labels: (N,), positions in ``run.classes``; paths: N.
    predictions: (N,) for each version of the refinement, see `scripts.page.read.versions`; empty
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
    return tqdm(items, total=total, desc=title, leave=False, disable=not is_terminal(sys.stderr))


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
def score(run: Run) -> Scores:
    """Return the results of the run's model for its test images.

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
        return {"model": text} if refiner is None else versions(refiner, text)

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
