"""Choose the checkpoint of a run folder by the run's own selection rule."""

import os

from ..settings import SettingsError
from .recorded import Recorded

__all__ = ["choose_epoch", "describe_epoch", "saved_epochs"]

BEST = "model-best.pth.tar"
EPOCH = "model.pth.tar-"


def choose_epoch(recorded: Recorded, names: list[str], epoch: int | None) -> int | None:
    """Return the epoch to load from the folders ``names``, where None is the best-val checkpoint.

    Without ``epoch`` the run's selection rule decides: last_step is the last epoch, best_val the
    best one. Where no rule is recorded, it is the last epoch, or the best one if no other exists.
    """
    common, epochs = _common(recorded.folder, names), saved_epochs(recorded.folder, names)
    if epoch is not None:
        if epoch not in epochs:
            there = ", ".join(map(str, epochs)) or "none"
            raise SettingsError(
                f"{recorded.folder} has no checkpoint of epoch {epoch} (epochs: {there}): choose "
                "one of these, or leave the epoch out"
            )
        return epoch
    best = BEST in common
    if recorded.selection.startswith("best") or (best and not epochs):
        if not best:
            raise SettingsError(
                f"the run in {recorded.folder} selects by {recorded.selection}, but has no {BEST}: "
                "give an epoch, or finish the training"
            )
        return None
    if not epochs:
        raise SettingsError(
            f"{recorded.folder} has no checkpoint of {', '.join(names)}: give the output folder of "
            "a training"
        )
    return epochs[-1]


def saved_epochs(folder: str, names: list[str]) -> list[int]:
    """Return the epochs of which every folder ``folder``/<name> has a checkpoint, ascending."""
    common = _common(folder, names)
    return sorted(int(end) for file in common if (end := file.removeprefix(EPOCH)).isdecimal())


def _common(folder: str, names: list[str]) -> set[str]:
    """Return the file names that all folders ``folder``/<name> have."""
    folders = [os.path.join(folder, name) for name in names]
    return set.intersection(*(set(os.listdir(f)) if os.path.isdir(f) else set() for f in folders))


def describe_epoch(recorded: Recorded, epoch: int | None) -> str:
    """Return "epoch 20 of 20 (last_step)" or "best epoch (best_val)"."""
    rule = f" ({recorded.selection})" if recorded.selection else ""
    if epoch is None:
        return f"best epoch{rule}"
    last = recorded.settings.get("OPTIM.MAX_EPOCH")
    if last is None:
        return f"epoch {epoch}"
    return f"epoch {epoch} of {last}" + (rule if epoch == last else "")
