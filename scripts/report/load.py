"""The results on disk: one Run for each result.json that train.py wrote after a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dassl.config.flat import flatten
from dassl.engine.run_records import FINISHED, RESULT, read_run_record
from dassl.utils import UsageError, read_json

LOG = "log.txt"
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "seed": int,
    "shots": int,
    "accuracy": (int, float),
    "total": int,
    "correct": int,
    "settings": dict,
}
ZERO_SHOT = "zero-shot"


@dataclass(frozen=True)
class Run:
    """One test of one model: its setting and its score, fields as in result.json.

    Attributes:
        classes: all, base or new.
        source: the dataset of the training where the test is on another one, else None.
        selection: which checkpoint was tested: last_step; best_val, best_test, or best where the
            training left no record; "epoch 5"; untrained; zero-shot.
        settings: the trainer's options by their config keys.
        folder: where it was found.
    """

    trainer: str
    dataset: str
    config: str
    seed: int
    shots: int
    classes: str
    source: str | None
    backbone: str
    selection: str
    epoch: int | None
    accuracy: float
    total: int
    correct: int
    split: str
    settings: Mapping[str, Any]
    folder: Path

    @property
    def is_zero_shot(self) -> bool:
        return self.selection == ZERO_SHOT


@dataclass(frozen=True)
class Found:
    """All that a folder holds: runs, and the folders with a log whose run has no result.

    Attributes:
        unfinished: a run there did not end well, or has not ended yet.
        untested: a job there finished without a test, as TEST.NO_TEST asks.
    """

    runs: list[Run]
    unfinished: list[Path]
    untested: list[Path]


def find(folder: Path) -> Found:
    """Read every result below ``folder``, in the order of the paths.

    A folder is unfinished if it has a log but neither a result nor the mark of a finished job, or
    if the runner started a job in it that did not end well.

    Raises:
        UsageError: ``folder`` is missing, or a result.json is not what train.py writes.
    """
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}: name the one that OUTPUT named when the jobs ran")
    found = Found([], [], [])
    for log in sorted(folder.rglob(LOG)):
        place = log.parent
        status = read_run_record(place).get("status")
        if (place / RESULT).is_file() and status in (None, FINISHED):
            found.runs.append(read_run(place / RESULT))
        elif status == FINISHED:
            found.untested.append(place)
        else:
            found.unfinished.append(place)
    return found


def read_run(path: Path) -> Run:
    """The Run of one result.json."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds {content!r:.40}: was it written by this train.py?")
    names = [field.name for field in fields(Run) if field.name != "folder"]
    lacking = [name for name in names if name not in content]
    if lacking:
        raise UsageError(f"{path} lacks {', '.join(lacking)}: was it written by this train.py?")
    values = {name: content[name] for name in names}
    for name, kind in _KINDS.items():
        if not isinstance(values[name], kind):
            raise UsageError(f"{path} has the {name} {values[name]!r:.40}: was it edited?")
    values["settings"] = dict(flatten(content["settings"]))
    if values["source"] == values["dataset"]:
        values["source"] = None
    return Run(**values, folder=path.parent)
