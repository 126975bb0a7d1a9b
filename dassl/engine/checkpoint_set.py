"""The checkpoints of a run: those of all its models make one set."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..utils.checkpoint import (
    BEST,
    epoch_file,
    list_checkpoints,
    load_run_checkpoint,
    newest_checkpoint,
)
from ..utils.errors import UsageError
from ..utils.tools import PathLike, atomic_path


def load_newest_set(
    directory: PathLike, names: Iterable[str]
) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Return {model: (path, checkpoint)} of a folder's newest set; empty where there is none.

    Raises:
        UsageError: one model has no checkpoint although others have, or their epochs differ.
    """
    folder = Path(directory)
    paths = {name: newest_checkpoint(folder / name) for name in names}
    missing = [name for name, path in paths.items() if path is None]
    if len(missing) == len(paths):
        return {}
    if missing:
        raise UsageError(
            f"the checkpoints in {str(directory)!r} are incomplete: nothing of "
            f"{', '.join(missing)}; choose another folder, or remove this one to start anew"
        )
    loaded = {name: (path, load_run_checkpoint(path)) for name, path in paths.items() if path}
    epochs = {name: checkpoint["epoch"] for name, (_, checkpoint) in loaded.items()}
    if len(set(epochs.values())) > 1:
        told = ", ".join(
            f"{name} is at epoch {epoch} (the folder holds {list_checkpoints(folder / name)})"
            for name, epoch in epochs.items()
        )
        raise UsageError(
            f"the checkpoints in {str(directory)!r} are of different epochs: {told}; write the "
            "name of one that all have into each file named 'checkpoint'"
        )
    return loaded


def checkpoint_path(directory: PathLike, name: str, epoch: int | None) -> Path:
    """Path of a model's checkpoint of an epoch, or its best one; UsageError if there is none."""
    folder = Path(directory) / name
    path = folder / (BEST if epoch is None else epoch_file(epoch))
    if not path.is_file():
        hint = "name an epoch with --load-epoch" if epoch is None else "name another --load-epoch"
        raise UsageError(
            f"no {path.name} in {str(folder)!r} (it holds: {list_checkpoints(folder)}); {hint}, "
            "or check --model-dir"
        )
    return path


def has_epoch(directory: PathLike, names: Iterable[str], epoch: int) -> bool:
    """Whether the folder holds the checkpoints of all models after `epoch` epochs."""
    return all((Path(directory) / name / epoch_file(epoch)).is_file() for name in names)


def bring_best(source: PathLike, target: PathLike, names: Iterable[str]) -> Path | None:
    """Copy the best checkpoints of a run into the folder of the run that goes on from it.

    Returns:
        Path of one of them in `target`; None where `source` lacks any.
    """
    files = [(Path(source) / name / BEST, Path(target) / name / BEST) for name in names]
    if not files or not all(old.is_file() for old, _ in files):
        return None
    for old, new in files:
        if old.resolve() != new.resolve():
            with atomic_path(new) as temporary:
                shutil.copyfile(old, temporary)
    return files[0][1]
