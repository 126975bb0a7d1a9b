"""Checkpoint sets: the checkpoints of all models of a run after one epoch."""

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
    """Return {model: (path, checkpoint)} of a folder's newest set; empty if there is none.

    Raises:
        UsageError: only some of the models have a checkpoint, or their epochs differ.
    """
    folder = Path(directory)
    paths = {name: newest_checkpoint(folder / name) for name in names}
    missing = [name for name, path in paths.items() if path is None]
    if len(missing) == len(paths):
        return {}
    if missing:
        raise UsageError(
            f"the checkpoints in {str(directory)!r} are incomplete: there is none of "
            f"{', '.join(missing)}; choose another folder, or remove this one to start again"
        )
    loaded = {name: (path, load_run_checkpoint(path)) for name, path in paths.items() if path}
    epochs = {name: checkpoint["epoch"] for name, (_, checkpoint) in loaded.items()}
    if len(set(epochs.values())) > 1:
        found = ", ".join(
            f"{name} is at epoch {epoch} (the folder has {list_checkpoints(folder / name)})"
            for name, epoch in epochs.items()
        )
        raise UsageError(
            f"the checkpoints in {str(directory)!r} are of different epochs: {found}; write the "
            "name of one that all have into each file named 'checkpoint'"
        )
    return loaded


def checkpoint_path(directory: PathLike, name: str, epoch: int | None) -> Path:
    """Return a model's checkpoint of an epoch (None: the best); raise a UsageError without one."""
    folder = Path(directory) / name
    path = folder / (BEST if epoch is None else epoch_file(epoch))
    if not path.is_file():
        hint = "name an epoch with --load-epoch" if epoch is None else "name another --load-epoch"
        raise UsageError(
            f"no {path.name} in {str(folder)!r} (it has {list_checkpoints(folder)}); {hint}, "
            "or check --model-dir"
        )
    return path


def has_epoch(directory: PathLike, names: Iterable[str], epoch: int) -> bool:
    """Return whether the folder has the checkpoints of all models after `epoch` epochs."""
    return all((Path(directory) / name / epoch_file(epoch)).is_file() for name in names)


def copy_best(source: PathLike, target: PathLike, names: Iterable[str]) -> Path | None:
    """Copy the best checkpoints of a run to the folder of the run that resumes it.

    Returns:
        Path of one of them in `target`; None if `source` does not have all.
    """
    files = [(Path(source) / name / BEST, Path(target) / name / BEST) for name in names]
    if not files or not all(old.is_file() for old, _ in files):
        return None
    for old, new in files:
        if old.resolve() != new.resolve():
            with atomic_path(new) as temporary:
                shutil.copyfile(old, temporary)
    return files[0][1]
