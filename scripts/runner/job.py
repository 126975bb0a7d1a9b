"""Workspaces, requests, jobs (one train.py process with an output folder each) and results."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dassl.config.flat import read_config
from dassl.engine.run_records import run_settings
from dassl.utils import UsageError, nearest
from dassl.utils.arguments import given_path
from scripts.runner.files import make_folder
from scripts.runner.protocol_table import ProtocolTable

ROOT = Path(__file__).resolve().parents[2]
DONE, SKIPPED, FAILED = "done", "skipped", "failed"


@dataclass(frozen=True)
class Workspace:
    """The folders of the repository, the datasets and the results."""

    root: Path
    data: Path
    output: Path

    @classmethod
    def from_env(cls, env: Mapping[str, str], verbose: bool = True) -> "Workspace":
        """Return the workspace of DATA and OUTPUT, by default data/ and output/ of this project."""
        folders = []
        for name in ("DATA", "OUTPUT"):
            given = env.get(name)
            path = _given_folder(name, given) if given else ROOT / name.lower()
            folders.append(path)
            if verbose:
                print(f"{name}={shlex.quote(str(path))}" + ("" if given else "  # the default"))
        return cls(ROOT, *folders)

    def make_folders(self, dataset: str) -> None:
        """Make DATA and OUTPUT; DATA must exist unless ``dataset`` is synthetic."""
        if not self.data.is_dir() and not self.table.is_synthetic(dataset):
            raise UsageError(
                f"no data folder {self.data}: set DATA to the folder that contains the datasets "
                "(docs/datasets.md describes how to get them)"
            )
        make_folder(self.data, "DATA")
        make_folder(self.output, "OUTPUT")

    @cached_property
    def table(self) -> ProtocolTable:
        return ProtocolTable.load(self.root / "configs" / "protocols.yaml")

    @property
    def datasets(self) -> list[str]:
        return sorted(path.stem for path in (self.root / "configs" / "datasets").glob("*.yaml"))

    def dataset_config(self, dataset: str) -> Path:
        return self.root / "configs" / "datasets" / f"{dataset}.yaml"

    def dataset_class(self, dataset: str) -> str:
        """Return the registered name of a dataset, such as DescribableTextures for dtd."""
        return str(read_config(self.dataset_config(dataset))["DATASET.NAME"])

    def trainer_config(self, name: str) -> Path:
        """Return the file of ``name`` (<trainer>/<config>); raise UsageError if it is missing."""
        folder = self.root / "configs" / "trainers"
        path = folder / f"{name}.yaml"
        if not path.is_file():
            known = [str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml")]
            raise UsageError(f"no config file {path}: {nearest(name, known)}")
        return path

    def short(self, path: Path) -> str:
        """Return ``path`` relative to the repository, where train.py runs, if it is inside."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)


@dataclass(frozen=True)
class Request:
    """A method in a protocol on a dataset with a seed."""

    method: str
    protocol: str
    dataset: str
    seed: int
    options: Mapping[str, str] = field(default_factory=dict)  # KEY VALUE pairs, in every job
    config: str | None = None  # a config file other than the protocol's
    shots: tuple[int, ...] = ()  # other than the protocol's
    source: str = ""  # training dataset of cross-dataset models; "": from the protocol table
    trainer: str | None = None  # another trainer with the method's config file and options


@dataclass(frozen=True)
class Teacher:
    """The teacher of a distilled student: its checkpoint and the name of its CLIP."""

    weights: Path
    backbone: str


@dataclass(frozen=True)
class Job:
    """One train.py process and its output folder."""

    name: str
    trainer: str
    dataset: str
    seed: int
    config: str  # <trainer>/<config> below configs/trainers
    folder: Path  # the --output-dir
    options: Mapping[str, str]
    classes: str = "all"  # base, new or all: those of the job's accuracy
    eval_only: bool = False
    model_folder: Path | None = None  # of a test's model; None for a training or zero-shot job
    epoch: int | None = None  # of that model; None for model-best.pth.tar
    teacher: Teacher | None = None  # of a student

    def command(self, workspace: Workspace) -> list[str]:
        """Return the command line, to be run in the repository's root."""
        short = workspace.short
        flags = {
            "--root": short(workspace.data),
            "--seed": str(self.seed),
            "--trainer": self.trainer,
            "--dataset-config-file": short(workspace.dataset_config(self.dataset)),
            "--config-file": short(workspace.trainer_config(self.config)),
            "--output-dir": short(self.folder),
        }
        if self.model_folder is not None:
            flags["--model-dir"] = short(self.model_folder)
        if self.epoch is not None:
            flags["--load-epoch"] = str(self.epoch)
        words = [short(Path(sys.executable)), "train.py", *_flatten(flags)]
        return words + ["--eval-only"] * self.eval_only + _flatten(self.options)

    def settings(self, workspace: Workspace) -> dict[str, Any]:
        """Return what train.py records as this job's settings."""
        files = workspace.dataset_config(self.dataset), workspace.trainer_config(self.config)
        flags = {
            "--trainer": self.trainer,
            "--seed": self.seed,
            "--eval-only": self.eval_only,
            "--load-epoch": self.epoch,
        }
        return run_settings(files, flags, self.options)


Chain = Sequence[Job]  # each needs the ones before it


@dataclass(frozen=True)
class Result:
    """The outcome of a job."""

    job: Job
    status: str  # DONE; SKIPPED, finished before; FAILED
    seconds: float = 0.0
    reason: str = ""  # of a failure, in one sentence
    code: int = 0  # the exit code of a failure


def _given_folder(name: str, given: str) -> Path:
    try:
        return given_path(given).absolute()
    except UsageError as error:
        raise UsageError(f"{name} {error}") from error


def _flatten(pairs: Mapping[str, str]) -> list[str]:
    return [word for pair in pairs.items() for word in pair]
