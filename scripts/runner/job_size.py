"""Count what a job computes: classes, images, steps."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils.schema import check
from dassl.utils.silence import silent_thread
from scripts.runner.cost_model import Work
from scripts.runner.job import Job, Workspace

REMEDY = "delete run.json to run the job again, or restore it"
DEFAULTS = {"OPTIM.MAX_EPOCH": 10, "DATALOADER.TRAIN_X.BATCH_SIZE": 32, "DATASET.NUM_SHOTS": -1}


def work_of_job(job: Job, workspace: Workspace) -> Work:
    """Return what a job will compute, from the official sizes of its dataset or its own folder.

    Raises:
        UsageError: the images of an own folder cannot be read.
    """
    settings = {**DEFAULTS, **job.settings(workspace)}
    root = str(job.options.get("DATASET.ROOT", workspace.data))
    classes, train, test = _counts(workspace.dataset_class(job.dataset), root)
    part = settings.get("DATASET.SUBSAMPLE_CLASSES", "all")
    if part != "all":  # the base classes are the first half
        base = -(-classes // 2)
        kept = base if part == "base" else classes - base
        train, test = train * kept // classes, test * kept // classes
        classes = kept
    shots = settings["DATASET.NUM_SHOTS"]
    if shots >= 1 and settings.get("DATASET.DISTILL_ON") != "all":
        train = min(train, shots * classes)
    return _work(settings, classes, 0 if job.eval_only else train, test, job.folder)


def work_of_run(
    record: Mapping[str, Any], result: Mapping[str, Any], folder: object
) -> Work | None:
    """Return what a finished run computed; None if its record has no data (earlier versions).

    Raises:
        UsageError: a recorded setting has another type; ``folder`` is that of the run.
    """
    data, settings = record.get("data"), record["settings"]
    if not data or "total" not in result:
        return None
    train = data.get("train") or data.get("train_u") or {}
    trained = 0 if settings["--eval-only"] else train.get("images", 0)
    return _work({**DEFAULTS, **settings}, len(data["classes"]), trained, result["total"], folder)


def _work(settings: Mapping[str, Any], classes: int, train: int, test: int, where: object) -> Work:
    content = {
        "trainer": settings["--trainer"],
        "backbone": settings.get("MODEL.BACKBONE.NAME", ""),
        "classes": classes,
        "train_images": train,
        "test_images": test,
        "epochs": settings["OPTIM.MAX_EPOCH"],
        "batch": settings["DATALOADER.TRAIN_X.BATCH_SIZE"],
    }
    return check(content, Work, f"the record of a run in {where}", REMEDY)


@cache  # many jobs have the same data
def _counts(name: str, root: str) -> tuple[int, int, int]:
    """Return the numbers of classes, training and test images of a dataset."""
    import datasets  # noqa: F401  # imported for its registrations

    kind: Any = DATASET_REGISTRY.get(name)
    if kind.counts is not None:
        return kind.counts.classes, kind.counts.train or 0, kind.counts.test or 0
    cfg = get_cfg_default()
    cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.DATASET.SUBSAMPLE_CLASSES = name, root, "all"
    with silent_thread():
        dataset = kind(cfg)
    return len(dataset.classnames), len(dataset.train_x), len(dataset.test)
