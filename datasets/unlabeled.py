"""Which images a trainer without labels sees: DATASET.DISTILL_ON.

few_shot: what a trainer with labels would see, the NUM_SHOTS of SUBSAMPLE_CLASSES.
all: PromptKD's protocol. Training images of all classes (NUM_SHOTS of each, or all with 0), also
of those that are tested as new; their labels are not used. The test split is validation, too:
either its base classes, while the new ones are the test (TRAINER.MODAL base2novel), or all of it
(cross).
"""

from typing import NamedTuple

from yacs.config import CfgNode

from dassl.data.datasets import Datum
from dassl.utils import UsageError, nearest

from .split import base_and_new

__all__ = ["ClassGroup", "unlabeled", "uses_all_classes"]

CHOICES = ("few_shot", "all")
MODALS = ("base2novel", "cross")


class ClassGroup(NamedTuple):
    """Classes that are tested apart from the others: a name for tables, and their labels."""

    name: str
    labels: list[int]


def uses_all_classes(cfg: CfgNode) -> bool:
    """Whether DATASET.DISTILL_ON asks for unlabeled images of all classes.

    Raises:
        UsageError: an unknown value, or one that contradicts SUBSAMPLE_CLASSES.
    """
    choice = cfg.DATASET.get("DISTILL_ON", "")
    if choice and choice not in CHOICES:
        raise UsageError(f"DATASET.DISTILL_ON is {choice!r}: {nearest(choice, CHOICES)}")
    if choice == "all" and cfg.DATASET.SUBSAMPLE_CLASSES != "all":
        raise UsageError(
            "DATASET.DISTILL_ON all takes images of all classes, but SUBSAMPLE_CLASSES is "
            f"{cfg.DATASET.SUBSAMPLE_CLASSES}: set it to all, or DISTILL_ON to few_shot"
        )
    return choice == "all"


def unlabeled(
    splits: dict[str, list[Datum]], modal: str
) -> tuple[dict[str, list[Datum]], dict[str, ClassGroup]]:
    """The splits of PromptKD's protocol, and the classes among which val and test are tested.

    Labels stay as they are. A dataset for testing only is tested among all its classes.
    """
    if modal not in MODALS:
        raise UsageError(f"TRAINER.MODAL is {modal!r}: {nearest(modal, MODALS)}")
    train, test = splits.get("train", splits["test"]), splits["test"]
    groups = base_and_new(train)
    if modal == "cross" or "train" not in splits:
        everything = ClassGroup("all", groups["base"] + groups["new"])
        parts = {"val": everything, "test": everything}
    else:
        parts = {
            "val": ClassGroup("base", groups["base"]),
            "test": ClassGroup("new", groups["new"]),
        }
    chosen = {
        split: [item for item in test if item.label in set(group.labels)]
        for split, group in parts.items()
    }
    return {"train": train, **chosen}, parts
