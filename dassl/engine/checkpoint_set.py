"""Checkpoint sets: the checkpoints of all models of a run after one epoch."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..utils.checkpoint import (
    BEST,
    checkpoint_files,
    epoch_file,
    list_checkpoints,
    load_run_checkpoint,
)
from ..utils.errors import UsageError
from ..utils.file_set import FileSet
from ..utils.tools import PathLike

CheckpointSet = dict[str, tuple[Path, dict[str, Any]]]  # model -> path, content


def load_newest_set(directory: PathLike, names: Iterable[str]) -> CheckpointSet:
    """Return the set of the newest epoch that all models have; empty without any checkpoint.

    Raises:
        UsageError: there are checkpoints, but no epoch that all models have.
    """
    folder, names = Path(directory), list(names)
    files = {name: checkpoint_files(folder / name) for name in names}
    if not any(files.values()):
        return {}
    shared = set.intersection(*(set(found) for found in files.values()))
    numbers = {file: epoch for file, epoch in files[names[0]].items() if file in shared}
    newest = max((epoch for epoch in numbers.values() if epoch is not None), default=-1)
    # The best model has no number in its name, and may be the newest.
    for file in sorted(file for file, epoch in numbers.items() if epoch is None):
        found = _load_set(folder, names, file)
        if found is not None and set_epoch(found) > newest:
            return found
    if newest >= 0:
        found = _load_set(folder, names, epoch_file(newest))
        if found is not None:
            return found
    each = "; ".join(f"{name} has {list_checkpoints(folder / name)}" for name in names)
    raise UsageError(
        f"the checkpoints in {str(directory)!r} are incomplete: no epoch has a checkpoint of all "
        f"models ({each}); choose another folder, or remove this one to start again"
    )


def load_set(directory: PathLike, names: Iterable[str], epoch: int | None) -> CheckpointSet:
    """Return the set of an epoch (None: the best model).

    Raises:
        UsageError: a file is missing, or the files are of different epochs.
    """
    folder, names = Path(directory), list(names)
    paths = {name: checkpoint_path(folder, name, epoch) for name in names}
    found = {name: (path, load_run_checkpoint(path)) for name, path in paths.items()}
    epochs = {name: checkpoint["epoch"] for name, (_, checkpoint) in found.items()}
    if len(set(epochs.values())) > 1:
        each = ", ".join(f"{name} is of epoch {epoch}" for name, epoch in epochs.items())
        raise UsageError(
            f"the checkpoints named {next(iter(paths.values())).name} in {str(directory)!r} are of "
            f"different epochs ({each}): run the command of the training again, which continues "
            "from its newest complete epoch"
        )
    return found


def set_epoch(found: CheckpointSet) -> int:
    """Return the number of finished epochs of a set."""
    return int(next(iter(found.values()))[1]["epoch"])


def _load_set(folder: Path, names: list[str], file: str) -> CheckpointSet | None:
    """Return the checkpoints with this file name; None if they are of different epochs."""
    found = {
        name: (folder / name / file, load_run_checkpoint(folder / name / file)) for name in names
    }
    epochs = {checkpoint["epoch"] for _, checkpoint in found.values()}
    if len(epochs) > 1:
        print(f"{file} in {folder} is of different epochs ({sorted(epochs)}) and is not used")
        return None
    return found


def newest_epoch(directory: PathLike) -> int | None:
    """Return the newest epoch for which all models in a run's folder have a checkpoint."""
    found = [checkpoint_files(path) for path in Path(directory).iterdir() if path.is_dir()]
    numbers = [{n for n in files.values() if n is not None} for files in found if files]
    shared = set.intersection(*numbers) if numbers else set()
    return max(shared, default=None)


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


def copy_best(
    source: PathLike, target: PathLike, names: Iterable[str], epoch: int
) -> CheckpointSet | None:
    """Make the model of ``epoch`` in the folder ``source`` the best one of ``target``.

    Returns:
        The set; None if ``source`` has no complete one of that epoch.
    """
    names = list(names)
    folders = [Path(source) / name for name in names]
    for file in (BEST, epoch_file(epoch)):
        if names and all((folder / file).is_file() for folder in folders):
            found = _load_set(Path(source), names, file)
            if found is None or (set_epoch(found) != epoch and epoch > 0):
                continue
            if Path(source).resolve() != Path(target).resolve() or file != BEST:
                with FileSet(target) as files:
                    for name in names:
                        content = (Path(source) / name / file).read_bytes()
                        files.write(Path(target) / name / BEST, content)
            return found
    return None
