"""Load published numbers and their references from scripts/published.yaml."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dassl.config.yaml_file import read_yaml
from dassl.utils import UsageError, nearest
from dassl.utils.schema import Count, Percent, Record, check
from scripts.tables.load import FEW_SHOT, LABELED, Run

AVERAGE = "average"
SHOTS = (1, 2, 4, 8, 16)  # of the accuracies in a few-shot row
NUMBERS = {
    "base2new": 3,
    "few-shot": len(SHOTS),
    "cross-dataset": 1,
    "domain generalization": 1,
    "zero-shot": 1,
}
REMEDY = "see scripts/published.yaml for the form"


class Source(Record, forbid_unknown_fields=True):
    """Where numbers were published."""

    paper: str
    table: str
    url: str


class PaperTable(Record, forbid_unknown_fields=True):
    """Numbers of one protocol, backbone and number of shots: method -> dataset -> percent."""

    source: str
    protocol: Literal["base2new", "few-shot", "cross-dataset", "domain generalization", "zero-shot"]
    backbone: str
    images: str
    shots: Count | None
    rows: dict[str, dict[str, Percent | list[Percent]]]
    trained_on: str | None = None


class File(Record, forbid_unknown_fields=True):
    """The whole file."""

    sources: dict[str, Source]
    average_over: list[str]
    tables: list[PaperTable]


@dataclass(frozen=True)
class Published:
    """One method in one table of a paper."""

    method: str
    protocol: str
    backbone: str
    images: str  # of the training, as in `Run.images`; "none" without training
    shots: int | None  # DATASET.NUM_SHOTS; None without training, and in few-shot rows
    trained_on: str | None  # the source dataset of a cross-dataset row
    results: Mapping[str, tuple[float, ...]]  # by dataset, in percent: NUMBERS[protocol] numbers
    averaged: frozenset[str]  # the datasets of a base2new or few-shot average
    source: str  # paper, table and address

    def is_comparable(self, protocol: str, runs: Sequence[Run]) -> bool:
        """Return whether the entry may be put beside ``runs``, the runs of one table.

        Protocol, backbone, shots and training images must be the same. An entry trained with
        labels is comparable to a distillation on the same few-shot images.
        """
        if (self.protocol, self.backbone, "test") != (protocol, runs[0].backbone, runs[0].split):
            return False
        trained = [run for run in runs if not run.is_zero_shot]
        return self.images == "none" or (
            bool(trained)
            and (protocol == "few-shot" or all(self.shots == run.shots for run in trained))
            and all(self.images in _image_kinds(run) for run in trained)
        )

    def accuracies(self, names: Iterable[str]) -> dict[str, float]:
        """Return the single accuracy of each dataset in ``names`` that the entry has."""
        return {name: self.results[name][0] for name in names if name in self.results}


def load(path: Path) -> list[Published]:
    """Load a file of published numbers.

    Raises:
        UsageError: the file cannot be read, or has another form than scripts/published.yaml.
    """
    try:
        tree = read_yaml(path)
    except OSError as error:
        raise UsageError(f"cannot read the published numbers {path}: {error.strerror}") from error
    file = check(tree, File, f"{str(path)!r}, a file of published numbers,", REMEDY)
    return [
        entry
        for number, table in enumerate(file.tables, 1)
        for entry in _entries(table, file, f"{str(path)!r}, table {number}")
    ]


def _image_kinds(run: Run) -> tuple[str, ...]:
    return (run.images, LABELED) if run.distill_on == FEW_SHOT else (run.images,)


def _entries(table: PaperTable, file: File, where: str) -> list[Published]:
    if table.source not in file.sources:
        known = nearest(table.source, file.sources)
        raise UsageError(f"{where} has the unknown source {table.source!r}: {known}")
    source = file.sources[table.source]
    count = NUMBERS[table.protocol]
    return [
        Published(
            method=method,
            protocol=table.protocol,
            backbone=table.backbone,
            images=table.images,
            shots=table.shots,
            trained_on=table.trained_on,
            results={
                name: _numbers(value, count, f"{where}, {method}, {name}")
                for name, value in row.items()
            },
            averaged=frozenset(file.average_over),
            source=f"{source.paper}, {source.table}, {source.url}",
        )
        for method, row in table.rows.items()
    ]


def _numbers(value: float | list[float], count: int, where: str) -> tuple[float, ...]:
    numbers = tuple(value) if isinstance(value, list) else (value,)
    if len(numbers) != count:
        wanted = "one accuracy" if count == 1 else f"{count} accuracies"
        raise UsageError(f"{where}: expected {wanted} in percent, got {value}; {REMEDY}")
    return numbers
