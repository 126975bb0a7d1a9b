"""Load the results of finished tests: one `Run` for each result.json that train.py wrote."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from dassl.config.flat import flatten
from dassl.engine.run_records import FINISHED, RESULT, read_run_record
from dassl.engine.run_records.schemas import ResultRecord
from dassl.utils import UsageError
from dassl.utils.schema import read_checked
from scripts.tables.identity import told_apart

LOG = "log.txt"
UNFINISHED, UNTESTED = "unfinished", "finished without a test"
ZERO_SHOT = "zero-shot"
LABELED, FEW_SHOT = "labeled", "few_shot"
# Settings of TextRefiner that results of version 0.1 lack, with what that version computed.
ADDED = {
    "READ_SCALE": 1.0,
    "READ": "each",
    "AGGREGATE": "both",
    "RANK": 0,
    "ZERO_START": False,
    "RENORMALIZE": False,
    "FREEZE_ALIGN": False,
    "LOCAL_ON": "tokens",
}
REFINER = "TRAINER.TEXTREFINER."


@dataclass(frozen=True)
class Run:
    """One test of one model: its setting and its score, with the fields of result.json.

    ``selection`` is the rule that chose the checkpoint: last_step, best_val, best_test, best (if
    the training left no record), "epoch 5", untrained or zero-shot.
    """

    trainer: str
    dataset: str
    config: str
    seed: int
    shots: int
    classes: str  # all, base or new
    source: str | None  # the training dataset if the test is on another one
    backbone: str
    selection: str
    epoch: int | None
    accuracy: float
    total: int
    correct: int
    split: str
    settings: Mapping[str, Any]  # the trainer's options by their config keys
    folder: Path
    data: Mapping[str, Any] | None = None  # what was tested; None in results of earlier versions
    clip: str = ""  # a digest of the fingerprint of its CLIP, likewise
    commit: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_zero_shot(self) -> bool:
        return self.selection == ZERO_SHOT

    @property
    def distill_on(self) -> str:
        """DATASET.DISTILL_ON (see datasets/unlabeled.py); empty if the training used labels."""
        return self.settings.get("DATASET.DISTILL_ON") or ""

    @property
    def images(self) -> str:
        """The training images: "labeled", or DISTILL_ON and MODAL, such as "few_shot cross"."""
        if not self.distill_on:
            return LABELED
        return f"{self.distill_on} {self.settings.get('TRAINER.MODAL')}"

    @property
    def is_transductive(self) -> bool:
        """Whether the model was distilled on unlabeled images of the cross-dataset target."""
        return self.images == "all cross"


@dataclass(frozen=True)
class Found:
    """The runs below a folder, and the folders with a log but without a result.

    ``without_result`` has the reason by folder: "unfinished" (failed, stopped or still running) or
    "finished without a test" (TEST.NO_TEST).
    """

    runs: list[Run] = field(default_factory=list)
    without_result: dict[Path, str] = field(default_factory=dict)


def find(folder: Path) -> Found:
    """Load every result below ``folder``, sorted by path.

    Raises:
        UsageError: ``folder`` is missing, or a result.json has another form than train.py's.
    """
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}; give the OUTPUT folder of the jobs")
    found = Found()
    for log in sorted(folder.rglob(LOG)):
        place = log.parent
        status = read_run_record(place).get("status")
        if (place / RESULT).is_file() and status in (None, FINISHED):
            found.runs.append(read_run(place / RESULT))
        else:
            found.without_result[place] = UNTESTED if status == FINISHED else UNFINISHED
    return replace(found, runs=told_apart(found.runs))


def read_run(path: Path) -> Run:
    """Load one result.json.

    Raises:
        UsageError: the file is missing, or has another form than train.py's.
    """
    content = read_checked(path, ResultRecord, "restore it, or run the test again")
    names = [item.name for item in fields(Run) if item.name in ResultRecord.__required_keys__]
    values: dict[str, Any] = {name: content[name] for name in names}  # type: ignore[literal-required]
    values["settings"] = settings = dict(flatten(content["settings"]))
    if f"{REFINER}CACHE_SIZE" in settings:
        values["settings"] = {REFINER + key: value for key, value in ADDED.items()} | settings
    if values["source"] == values["dataset"]:
        values["source"] = None
    clip = content.get("clip")
    text = json.dumps(clip, sort_keys=True).encode()
    return Run(
        **values,
        folder=path.parent,
        data=content.get("data"),
        clip=hashlib.sha256(text).hexdigest()[:8] if clip else "",
        commit=content.get("commit"),
        warnings=tuple(content.get("warnings", ())),
    )
