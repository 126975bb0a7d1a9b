"""Model selection: test the last epoch, or the best one on validation images."""

from typing import Any

from yacs.config import CfgNode

from ..utils.errors import UsageError


def selects_best(cfg: CfgNode) -> bool:
    """Return whether every epoch is evaluated to find the best one."""
    return cfg.TEST.FINAL_MODEL == "best_val" and not cfg.TEST.NO_TEST


def note_old_name(cfg: CfgNode) -> None:
    """Print how TEST.FINAL_MODEL last_val is read, if it is the setting."""
    if cfg.TEST.FINAL_MODEL == "last_val":
        print(
            "TEST.FINAL_MODEL last_val is read as last_step: as in the original Dassl, every "
            "value but best_val means the last epoch"
        )


def check_selection(cfg: CfgNode, val_loader: Any, dm: Any) -> None:
    """Raise a UsageError if test images would select the epoch without TEST.SELECT_ON_TEST."""
    problem = val_problem(val_loader, dm)
    if not problem:
        return
    name = cfg.DATASET.NAME or "the dataset"
    if not cfg.TEST.SELECT_ON_TEST:
        raise UsageError(
            f"TEST.FINAL_MODEL best_val needs validation images, but {name} {problem}: set "
            "TEST.FINAL_MODEL last_step, or TEST.SELECT_ON_TEST True to select on test images"
        )
    print(f"TEST.SELECT_ON_TEST: {name} {problem}, so the best epoch is selected on TEST images")


def check_split(trainer: Any) -> None:
    """Raise a UsageError if TEST.SPLIT names a split that a trainer's dataset does not have."""
    cfg = trainer.cfg
    if cfg.TEST.SPLIT == "val" and not cfg.TEST.NO_TEST and trainer.val_loader is None:
        raise UsageError(
            f"TEST.SPLIT is val, but {cfg.DATASET.NAME or 'the dataset'} has no val split: set it "
            "to test"
        )


def selection_rule(trainer: Any) -> str:
    """Return last_step, best_val, or best_test if a dataset has no separate validation images."""
    if not selects_best(trainer.cfg):
        return "last_step"
    return "best_test" if val_problem(trainer.val_loader, trainer.dm) else "best_val"


def describe_selection(trainer: Any) -> str:
    """Return the line printed above the final result."""
    last = trainer.max_epoch
    if not selects_best(trainer.cfg):
        return f"Selection rule: last_step (epoch {last} of {last})"
    images = "val images"
    if val_problem(trainer.val_loader, trainer.dm):
        images = "TEST images because of TEST.SELECT_ON_TEST"
    return (
        f"Selection rule: best_val (epoch {trainer.best_epoch} of {last}, "
        f"{trainer.best_result:.1f}% on {images})"
    )


def val_problem(val_loader: Any, dm: Any) -> str:
    """Return why a dataset has no separate validation split (a predicate), or ""."""
    if val_loader is None:
        return "has no val split"
    dataset = getattr(dm, "dataset", None)
    if dataset is None:
        return ""
    if getattr(dataset, "val_is_test", False):
        return "takes its val images from the test split"
    test = {item.impath for item in dataset.test}
    shared = sum(item.impath in test for item in dataset.val)
    return f"has {shared} of its val images also in test" if shared else ""
