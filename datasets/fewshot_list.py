"""Few-shot lists: the images that a training with NUM_SHOTS and SEED uses, as a pickle and JSON."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, Datum
from dassl.utils import UsageError


def sample_list(name: str, root: Path, shots: int, seed: int) -> dict[str, Sequence[Datum]]:
    """Return the few-shot images of the class ``name`` by "train" and "val".

    The pickle in split_fewshot/ is read, or written as a training would.

    Raises:
        UsageError: ``shots`` or ``seed`` is not allowed, or files are missing.
    """
    if shots < 1 or seed < 0:
        raise UsageError(
            f"--shots is {shots} and --seed {seed}: shots must be at least 1, the seed at least 0"
        )
    cfg = get_cfg_default()
    cfg.DATASET.NAME = name
    cfg.DATASET.ROOT = str(root)
    cfg.DATASET.NUM_SHOTS = shots
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"
    cfg.SEED = seed
    cls = DATASET_REGISTRY.get(name)
    if cls.counts is not None and cls.counts.train is None:
        raise UsageError(f"{name} is a test set without training images: it has no few-shot list")
    dataset = cls(cfg)
    return {"train": dataset.train_x, "val": dataset.val or []}


def public_form(sampled: dict[str, Sequence[Datum]], root: Path) -> dict[str, Any]:
    """Return {"train": {"data": [{"impath", "label", "classname"}, ...]}, "val": ...}.

    Paths start with ``root`` as it was given.
    """
    absolute = os.path.abspath(root)
    return {
        part: {
            "data": [
                {
                    "impath": os.path.join(root, os.path.relpath(item.impath, absolute)),
                    "label": item.label,
                    "classname": item.classname,
                }
                for item in items
            ]
        }
        for part, items in sampled.items()
    }
