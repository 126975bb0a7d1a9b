"""Compare a run with the records of the checkpoints that it resumes or tests."""

import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ..config.flat import differences
from ..utils.checkpoint import POINTER, checkpoint_files
from ..utils.errors import UsageError
from .checkpoint_set import newest_epoch
from .run_records import data_differences, read_record, training_settings
from .run_records.checkpoints import data_of

LONGER = "OPTIM.MAX_EPOCH"  # a training may be continued for more epochs


FILES = ("log.txt", "run.json", "checkpoint.json", "result.json", "result-earlier.json")


def check_places(folder: Path, names: Iterable[str]) -> None:
    """Raise OSError if a folder is where a run of the models ``names`` writes a file, or reversely.

    Without this check a training would end at its first checkpoint, or after its test.
    """
    places = [folder / name for name in ("tensorboard", *names)]
    for place in places:
        if place.exists() and not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    files = [folder / name for name in (*FILES, "config.yaml")]
    files += [file for place in places[1:] for file in (place / POINTER, *place.glob("model*"))]
    for file in files:
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))


def check_continuation(trainer: Any, cfg: CfgNode) -> None:
    """Raise UsageError if the checkpoints to resume have other settings, classes or images."""
    folders = {Path(cfg.OUTPUT_DIR), Path(cfg.RESUME or cfg.OUTPUT_DIR)}
    for folder in sorted(folders):
        if not any(checkpoint_files(folder / name) for name in trainer.get_model_names()):
            continue
        changed = _changed_since(folder, training_settings(trainer, cfg))
        if changed:
            raise UsageError(
                f"{folder} contains checkpoints of other settings ({'; '.join(changed)}): use the "
                "same settings, choose another --output-dir, or delete the folder"
            )
        then, now = read_record(folder).get("data"), data_of(trainer)
        changed = data_differences(then, now, ("train", "train_u"))
        if changed:
            raise UsageError(
                f"{folder} contains checkpoints of other data ({'; '.join(changed)}): restore the "
                "data, choose another --output-dir, or delete the folder"
            )


def warn_of_differences(trainer: Any, cfg: CfgNode, model_dir: str) -> None:
    """Warn where a test has other settings of the trainer, or other class names, than training."""
    lines = [
        line
        for line in _changed_since(Path(model_dir), training_settings(trainer, cfg))
        if line.startswith("TRAINER.") and not line.startswith("TRAINER.NAME")
    ]
    for line in [*lines, *_other_classes(trainer, cfg, model_dir)]:
        text = f"the model in {model_dir} was trained with other settings: {line}"
        print(f"warning: {text}")
        if hasattr(trainer, "warnings"):
            trainer.warnings.append(text)


def selected_epoch(model_dir: str, epoch: int | None) -> int | None:
    """Return the epoch to test: ``epoch``, or what the record of a training selected.

    None is the best model, which folders without a record have been trained for.
    """
    if epoch is not None or read_record(model_dir).get("selection") != "last_step":
        return epoch
    newest = newest_epoch(model_dir)
    if newest is not None:
        print(f"The record in {model_dir} selects the last epoch: {newest}")
    return newest


def _other_classes(trainer: Any, cfg: CfgNode, model_dir: str) -> list[str]:
    """Return how the classes differ from those of a training on the same dataset."""
    record = read_record(model_dir)
    then, now = record.get("data"), data_of(trainer)
    if not then or not now or then["name"] != now["name"]:
        return []
    return data_differences(
        {**then, "classes": then["all_classes"]}, {**now, "classes": now["all_classes"]}, ()
    )


def _changed_since(folder: Path, values: Mapping[str, Any]) -> list[str]:
    """Return the differences from the settings recorded in ``folder``, in the keys of both."""
    old = read_record(folder).get("settings", {})
    shared = old.keys() & values.keys() - {LONGER}
    return differences({k: old[k] for k in shared}, {k: values[k] for k in shared})
