"""Open a run folder: its records, its model, and the images that it was tested on."""

import io
import os
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from dassl.config import get_cfg_default, merge_file
from dassl.data.datasets import build_dataset
from dassl.data.fingerprint import describe_data
from dassl.engine.run_records import data_differences, read_result, read_run_record
from dassl.engine.run_records.checkpoints import RECORD, read_record
from dassl.utils import UsageError
from trainers.classifier import Classifier, load
from trainers.classifier.classifier import has_class_parameters
from trainers.classifier.quiet import log_to_stderr
from trainers.settings import extend_cfg

__all__ = ["Run", "epoch_of_test", "full_config", "halves", "open_run", "spread"]

CONFIG = "config.yaml"


@dataclass
class Run:
    """A trained model and its images.

    Attributes:
        folder: the folder that was given; ``model_folder`` has the checkpoints and curves.
        cfg: the whole config; DATASET.ROOT is the folder that the images were read from.
        classifier: the model for the classes of the dataset.
        dataset: its name; ``source`` is the dataset with its splits.
        classes: C names of the classes that are compared; ``columns`` are their labels.
        split: name of the tested split; ``test`` are its images, at most ``max_images`` of them,
            and ``test_size`` is the number without this limit.
        train: training images, at most ``max_images``; ``train_size`` as above.
        class_group: which classes are compared: all, base or new.
        max_images: the limit of ``test`` and ``train``, or None.
        records: the contents of run.json, result.json and checkpoint.json, and the description of
            the images that were read as "data".
    """

    folder: Path
    model_folder: Path
    cfg: CfgNode
    classifier: Classifier
    dataset: str
    source: Any
    classes: list[str]
    columns: list[int]
    split: str
    test: list[Any]
    test_size: int
    train: list[Any]
    train_size: int
    class_group: str
    max_images: int | None
    records: dict[str, Any]

    @property
    def name(self) -> str:
        """Method and seed, for headings."""
        return f"{self.classifier.method}, seed {self.cfg.SEED}"

    @property
    def data(self) -> str:
        """The tested images in words, for captions."""
        group = {"all": "", "base": " (base classes)", "new": " (new classes)"}
        part = group.get(self.class_group, "")
        cut = "" if len(self.test) == self.test_size else f" of {self.test_size:,}"
        return f"{self.dataset}{part}, {self.split} split, {len(self.test):,}{cut} images"

    @property
    def is_test(self) -> bool:
        """Whether the folder is that of a test of another folder's model."""
        return self.model_folder != self.folder


def full_config(folder: Path) -> CfgNode:
    """Return the whole config of a run.

    Raises:
        UsageError: the folder has none, or it is not one of this version.
    """
    path = folder / CONFIG
    if not folder.is_dir():
        raise UsageError(f"there is no folder {str(folder)!r}: give the output folder of a run")
    if not path.is_file():
        raise UsageError(
            f"{str(folder)!r} has no {CONFIG}: give the output folder of a run of train.py; for a "
            "model trained with an older version, test it once (--eval-only --model-dir FOLDER "
            "--output-dir OTHER) and give OTHER"
        )
    cfg = get_cfg_default()
    extend_cfg(cfg)
    merge_file(cfg, path)
    return cfg


def spread(items: list[Any], limit: int | None) -> list[Any]:
    """Return ``limit`` items at even distances, so that a list sorted by class keeps all classes.

    All of them are returned if ``limit`` is None or not smaller than their number.
    """
    if limit is None or limit >= len(items):
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, limit).round().astype(int)]


def open_run(
    folder: Path, root: str = "", max_images: int | None = None, device: str | None = None
) -> Run:
    """Load the model and list the images of a run.

    A folder of a test (``train.py --eval-only --model-dir MODEL``) shows the model in MODEL on the
    data of the test.

    Args:
        root: folder of the datasets; by default the one that the run used.
        max_images: limit for the test and for the training images.
        device: of the model; by default CUDA if available, otherwise the CPU.

    Raises:
        UsageError, SettingsError: the folder, its model or its images are not usable.
    """
    cfg = full_config(folder)
    if root:
        cfg.DATASET.ROOT = root
    if not root and not os.path.isdir(os.path.expanduser(cfg.DATASET.ROOT)):
        raise UsageError(
            f"the run read its images from {cfg.DATASET.ROOT!r}, which is not a folder here: give "
            "the folder of the datasets as --images"
        )
    with log_to_stderr(verbose=False):
        dataset = build_dataset(cfg)
    is_test = bool(cfg.MODEL_DIR) and not (folder / RECORD).is_file()
    model_folder = Path(cfg.MODEL_DIR) if is_test else folder
    result, record = read_result(folder), read_record(model_folder)
    data = describe_data(dataset, cfg.DATASET.ROOT)
    then = result.get("data") if is_test else record.get("data")
    # Without a seed every run samples its own training images.
    parts = ("train", "val", "test") if cfg.SEED >= 0 else ("test",)
    if changed := data_differences(then, data, parts):
        raise UsageError(
            f"the data in {cfg.DATASET.ROOT!r} are not those of the run ({'; '.join(changed)}): "
            "give the folder that has them as --images, or test the model again on the new data"
        )
    known = record.get("classes")
    names = list(dataset.classnames)
    classifier = load(
        model_folder,
        epoch_of_test(result) if is_test else None,
        classnames=None if names == known else names,
        device=device,
        batch_size=cfg.DATALOADER.TEST.BATCH_SIZE,
    )
    train = spread(list(dataset.train_x), max_images)
    return Run(
        folder=folder,
        model_folder=model_folder,
        cfg=cfg,
        classifier=classifier,
        dataset=data["name"],
        source=dataset,
        train=train,
        train_size=len(dataset.train_x),
        max_images=max_images,
        records={
            "run": read_run_record(folder),
            "result": result,
            "checkpoint": record,
            "data": data,
        },
        **_tested(dataset, cfg, cfg.TEST.SPLIT, max_images),
    )


def _tested(dataset: Any, cfg: CfgNode, split: str, limit: int | None) -> dict[str, Any]:
    """Return the attributes of a `Run` that describe the images and classes of a split."""
    images = list((dataset.val if split == "val" else dataset.test) or [])
    if not images:
        name = describe_data(dataset, cfg.DATASET.ROOT)["name"]
        raise UsageError(f"{name} has no images in the split {split!r} of the run")
    names = list(dataset.classnames)
    group = getattr(dataset, "class_groups", {}).get(split)
    columns = list(group.labels) if group else list(range(len(names)))
    return {
        "classes": [names[label] for label in columns],
        "columns": columns,
        "split": "test" if group else split,
        "test": spread(images, limit),
        "test_size": len(images),
        "class_group": group.name if group else cfg.DATASET.SUBSAMPLE_CLASSES,
    }


def halves(run: Run) -> list[Run]:
    """Return the run on its base and on its new classes, or the run alone if it has no halves.

    A training on the base classes has new classes, which its model then gets as class names, except
    where parameters belong to single classes (CSC, TaskRes). So has a training on the images of all
    classes that tests them in groups (DATASET.DISTILL_ON all). A test has the classes that it
    tested.
    """
    if run.is_test:
        return [run]
    groups: Mapping[str, Any] = getattr(run.source, "class_groups", {})
    if groups:
        parts = [_tested(run.source, run.cfg, split, run.max_images) for split in groups]
        return [replace(run, **part) for part in parts]
    if run.class_group != "base" or has_class_parameters(run.classifier.model):
        return [run]
    cfg = run.cfg.clone()
    cfg.DATASET.SUBSAMPLE_CLASSES = "new"
    with redirect_stdout(io.StringIO()):  # `open_run` has printed the warnings on this dataset
        dataset = build_dataset(cfg)
    classifier = run.classifier.with_classes(list(dataset.classnames))
    tested = _tested(dataset, cfg, cfg.TEST.SPLIT, run.max_images)
    records = {**run.records, "data": describe_data(dataset, cfg.DATASET.ROOT)}
    return [run, replace(run, classifier=classifier, source=dataset, records=records, **tested)]


def epoch_of_test(result: Any) -> int | None:
    """Return the epoch that a test loaded; None for the best one, or without a result."""
    if str(result.get("selection", "best")).startswith("best"):
        return None
    return result.get("epoch")
