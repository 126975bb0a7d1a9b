"""Load published numbers and their references from scripts/published.yaml."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dassl.utils import UsageError
from scripts.report.load import FEW_SHOT, LABELED, Run

AVERAGE = "average"
NUMBERS = {"base2new": 3, "cross-dataset": 1, "domain generalization": 1, "zero-shot": 1}
SOURCE_KEYS = {"paper", "table", "url"}
TABLE_KEYS = {"source", "protocol", "backbone", "images", "shots", "rows"}
OPTIONAL_KEYS = {"trained_on"}


@dataclass(frozen=True)
class Published:
    """One method in one table of a paper."""

    method: str
    protocol: str
    backbone: str
    images: str  # of the training, as in `Run.images`; "none" without training
    shots: int | None  # DATASET.NUM_SHOTS; None without training
    trained_on: str | None  # the source dataset of a cross-dataset row
    results: Mapping[str, tuple[float, ...]]  # base, new, H or one accuracy, by dataset, in percent
    averaged: frozenset[str]  # the datasets of a base2new average
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
            and all(self.shots == run.shots for run in trained)
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
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        averaged = frozenset(tree["average_over"])
        sources = {name: _source(entry) for name, entry in tree["sources"].items()}
        return [entry for table in tree["tables"] for entry in _entries(table, sources, averaged)]
    except OSError as error:
        raise UsageError(f"cannot read the published numbers {path}: {error.strerror}") from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{path} is not a file of published numbers ({type(error).__name__}: {reason}); "
            "see scripts/published.yaml for the form"
        ) from error


def _image_kinds(run: Run) -> tuple[str, ...]:
    return (run.images, LABELED) if run.distill_on == FEW_SHOT else (run.images,)


def _source(entry: Mapping[str, str]) -> str:
    _check_keys(entry, SOURCE_KEYS, set())
    return f"{entry['paper']}, {entry['table']}, {entry['url']}"


def _entries(
    table: Mapping[str, Any], sources: Mapping[str, str], averaged: frozenset[str]
) -> list[Published]:
    _check_keys(table, TABLE_KEYS, OPTIONAL_KEYS)
    count = NUMBERS[table["protocol"]]
    return [
        Published(
            method=method,
            **{key: table[key] for key in ("protocol", "backbone", "images", "shots")},
            trained_on=table.get("trained_on"),
            results={name: _numbers(value, count) for name, value in row.items()},
            averaged=averaged,
            source=sources[table["source"]],
        )
        for method, row in table["rows"].items()
    ]


def _check_keys(entry: Mapping[str, Any], needed: set[str], optional: set[str]) -> None:
    wrong = (entry.keys() - needed - optional) | (needed - entry.keys())
    if wrong:
        raise ValueError(
            f"each entry needs the keys {', '.join(sorted(needed))}; "
            f"missing or unknown: {', '.join(sorted(wrong))}"
        )


def _numbers(value: Any, count: int) -> tuple[float, ...]:
    numbers = tuple(float(number) for number in (value if isinstance(value, list) else [value]))
    if len(numbers) != count or not all(0 <= number <= 100 for number in numbers):
        wanted = "one accuracy" if count == 1 else f"{count} accuracies"
        raise ValueError(f"expected {wanted} in percent, got {value}")
    return numbers
