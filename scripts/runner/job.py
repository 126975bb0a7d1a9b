"""Where a job runs, what was asked for, and the one train.py process that a job is."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dassl.config.flat import decode, read_config
from dassl.utils import UsageError, nearest
from scripts.runner.protocol_table import ProtocolTable

# Speed and output only: a job may be resumed, and counts as finished, with other values.
HARMLESS_KEYS = (
    "DATALOADER.FEATURE_STORE",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.TEST.BATCH_SIZE",
    "TRAIN.CHECKPOINT_FREQ",
    "TRAIN.PRINT_FREQ",
    "VERBOSE",
)


@dataclass(frozen=True)
class Workspace:
    """The repository, the images, the results, and the Python that runs train.py."""

    root: Path
    data: Path
    output: Path
    python: str = sys.executable

    @cached_property
    def table(self) -> ProtocolTable:
        return ProtocolTable.load(self.root / "configs" / "protocols.yaml")

    @property
    def datasets(self) -> list[str]:
        return sorted(path.stem for path in (self.root / "configs" / "datasets").glob("*.yaml"))

    def dataset_config(self, dataset: str) -> Path:
        return self.root / "configs" / "datasets" / f"{dataset}.yaml"

    def trainer_config(self, name: str) -> Path:
        """The file of ``name`` (<trainer>/<config>); a UsageError if it is missing."""
        folder = self.root / "configs" / "trainers"
        path = folder / f"{name}.yaml"
        if not path.is_file():
            known = [str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml")]
            raise UsageError(f"no config file {path}: {nearest(name, known)}")
        return path

    def short(self, path: Path) -> str:
        """``path`` relative to the repository, where train.py runs, if it lies below."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    Attributes:
        options: KEY VALUE pairs for train.py, in every job of the protocol.
        config: another config file than the protocol's.
        shots: other shots than the protocol's.
        source: the dataset that cross-dataset models were trained on; empty: the one that the
            protocol table names.
    """

    method: str
    protocol: str
    dataset: str
    seed: int
    options: Mapping[str, str] = field(default_factory=dict)
    config: str | None = None
    shots: tuple[int, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Job:
    """One train.py process and the folder that belongs to it.

    Attributes:
        config: <trainer>/<config> below configs/trainers.
        folder: its --output-dir.
        eval_only: nothing is trained.
        model_folder: where a test reads its model; None for a training or zero-shot job.
        epoch: the epoch it reads there; None for model-best.pth.tar.
    """

    name: str
    trainer: str
    dataset: str
    seed: int
    config: str
    folder: Path
    options: Mapping[str, str]
    eval_only: bool = False
    model_folder: Path | None = None
    epoch: int | None = None

    def command(self, place: Workspace) -> list[str]:
        """The command line, to be run in the repository's root."""
        flags = {
            "--root": place.short(place.data),
            "--seed": str(self.seed),
            "--trainer": self.trainer,
            "--dataset-config-file": place.short(place.dataset_config(self.dataset)),
            "--config-file": place.short(place.trainer_config(self.config)),
            "--output-dir": place.short(self.folder),
        }
        if self.model_folder is not None:
            flags["--model-dir"] = place.short(self.model_folder)
        if self.epoch is not None:
            flags["--load-epoch"] = str(self.epoch)
        words = [place.short(Path(place.python)), "train.py", *_flatten(flags)]
        return words + ["--eval-only"] * self.eval_only + _flatten(self.options)

    def settings(self, place: Workspace) -> dict[str, Any]:
        """What decides its outcome, flat: configs, KEY VALUE pairs, flags; no paths, no speed."""
        flat = read_config(place.dataset_config(self.dataset))
        flat.update(read_config(place.trainer_config(self.config)))
        flat.update({key: decode(value) for key, value in self.options.items()})
        flat |= {"--trainer": self.trainer, "--seed": self.seed, "--eval-only": self.eval_only}
        flat["--load-epoch"] = self.epoch
        flat = {key: value for key, value in flat.items() if key not in HARMLESS_KEYS}
        return json.loads(json.dumps(flat, default=str))  # as it will be read back from a file


def _flatten(pairs: Mapping[str, str]) -> list[str]:
    return [word for pair in pairs.items() for word in pair]
