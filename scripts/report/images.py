"""Which images a run was trained on: runs that differ in them are not compared in one table.

    images(run)     # "labeled", "few_shot cross", "all base2novel"

The setting is DATASET.DISTILL_ON with TRAINER.MODAL (datasets/unlabeled.py). A distillation on
few_shot sees the images of a trainer with labels and may stand beside it; one on all may not.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

from scripts.report.load import Run
from scripts.report.rows import group_by

LABELED = "labeled"


def images(run: Run) -> str:
    """The images of a training: "labeled", or DISTILL_ON and MODAL of a distillation."""
    distilled = run.settings.get("DATASET.DISTILL_ON")
    return f"{distilled} {run.settings.get('TRAINER.MODAL')}" if distilled else LABELED


def shares_labeled(name: str) -> bool:
    """Are these the images of the trainers with labels?"""
    return name == LABELED or name.startswith("few_shot ")


def is_transductive(run: Run) -> bool:
    """PromptKD's cross-dataset protocol: distilled on the unlabeled images of the target."""
    return images(run) == "all cross"


def by_images(trained: Iterable[Run], key: Callable[[Run], Hashable]) -> list[list[Run]]:
    """The runs that may share a table: equal ``key`` and images.

    Runs with labels join each distillation on few_shot; two of those with different MODAL do not
    meet.
    """
    parts = group_by(trained, lambda run: (key(run), images(run)))
    labeled = {key(part[0]): part for part in parts if images(part[0]) == LABELED}
    few_shot = [part for part in parts if images(part[0]).startswith("few_shot ")]
    joined = {key(part[0]) for part in few_shot}
    tables = []
    for part in parts:
        name = images(part[0])
        if name == LABELED and key(part[0]) in joined:
            continue
        also = labeled.get(key(part[0]), []) if part in few_shot else []
        tables.append([*also, *part])
    return tables


def describe(members: Sequence[Run]) -> str:
    """The images of a table's trained rows, in words."""
    names = dict.fromkeys(images(run) for run in members if not run.is_zero_shot)
    return " and ".join(_WORDS[name.split()[0]].format(name) for name in names) or "none"


_WORDS = {
    "labeled": "labeled few-shot",
    "few_shot": "the few-shot ones without labels (DISTILL_ON, MODAL: {})",
    "all": "unlabeled of all classes (DISTILL_ON, MODAL: {})",
}
