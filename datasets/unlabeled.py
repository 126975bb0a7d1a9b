"""Images for a trainer without labels, chosen by DATASET.DISTILL_ON.

few_shot: the images of a trainer with labels, the NUM_SHOTS of SUBSAMPLE_CLASSES.
all: PromptKD's protocol. Training images of all classes without their labels, including the
classes tested as new (NUM_SHOTS of each, or all with 0). Validation images are test images: with
TRAINER.MODAL base2novel those of the base classes, while the new classes are tested; with cross
all of them.
"""

from typing import NamedTuple

from yacs.config import CfgNode

from dassl.data.datasets import Datum
from dassl.utils import UsageError, nearest

from .split import base_and_new

CHOICES = ("few_shot", "all")
MODALS = ("base2novel", "cross")


class ClassGroup(NamedTuple):
    """Classes that are tested separately: a name for tables, and their labels."""

    name: str
    labels: list[int]


def uses_all_classes(cfg: CfgNode) -> bool:
    """Return whether DATASET.DISTILL_ON selects unlabeled images of all classes.

    A UsageError is raised for an unknown value, or one that contradicts SUBSAMPLE_CLASSES.
    """
    choice = cfg.DATASET.get("DISTILL_ON", "")
    if choice and choice not in CHOICES:
        raise UsageError(f"DATASET.DISTILL_ON is {choice!r}: {nearest(choice, CHOICES)}")
    classes = cfg.DATASET.get("SUBSAMPLE_CLASSES", "all")
    if choice == "all" and classes != "all":
        raise UsageError(
            "DATASET.DISTILL_ON all uses images of all classes, but SUBSAMPLE_CLASSES is "
            f"{classes}: set it to all, or DISTILL_ON to few_shot"
        )
    return choice == "all"


def unlabeled(
    splits: dict[str, list[Datum]], modal: str
) -> tuple[dict[str, list[Datum]], dict[str, ClassGroup]]:
    """Return the splits of PromptKD's protocol, and the classes of val and test.

    Labels are unchanged. A test-only dataset is tested on all its classes.
    """
    if modal not in MODALS:
        raise UsageError(f"TRAINER.MODAL is {modal!r}: {nearest(modal, MODALS)}")
    train, test = splits.get("train", splits["test"]), splits["test"]
    groups = base_and_new(train)
    if modal == "cross" or "train" not in splits:
        groups = {"all": groups["base"] + groups["new"]}
    classes = [ClassGroup(name, labels) for name, labels in groups.items()]
    parts = {"val": classes[0], "test": classes[-1]}
    chosen = {
        split: [item for item in test if item.label in set(group.labels)]
        for split, group in parts.items()
    }
    return {"train": train, **chosen}, parts
