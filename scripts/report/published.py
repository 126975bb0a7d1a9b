"""The file of published numbers (scripts/published.yaml): what papers report, and the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dassl.utils import UsageError

AVERAGE = "average"
NUMBERS = {"base2new": 3, "cross-dataset": 1, "domain generalization": 1, "zero-shot": 1}
SOURCE_KEYS = {"paper", "table", "url"}
TABLE_KEYS = {"source", "protocol", "backbone", "images", "shots", "rows"}
OPTIONAL = {"trained_on"}


@dataclass(frozen=True)
class Published:
    """One method in one table of a paper.

    Attributes:
        images: as `scripts.report.images.images`; "none" where nothing is trained.
        shots: as DATASET.NUM_SHOTS; None where nothing is trained.
        trained_on: the source dataset of a cross-dataset row, else None.
        results: dataset, or "average", -> base, new, H; or the one accuracy. In percent.
        averaged: the datasets that a base2new average is over.
        source: paper, table and address.
    """

    method: str
    protocol: str
    backbone: str
    images: str
    shots: int | None
    trained_on: str | None
    results: Mapping[str, tuple[float, ...]]
    averaged: frozenset[str]
    source: str

    @property
    def is_zero_shot(self) -> bool:
        return self.images == "none"


def load(path: Path) -> list[Published]:
    """Read a file of published numbers.

    Raises:
        UsageError: it cannot be read, or is not of the form that scripts/published.yaml has.
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
            f"{path} is no file of published numbers ({type(error).__name__}: {reason}): "
            "scripts/published.yaml shows the form"
        ) from error


def _source(entry: Mapping[str, str]) -> str:
    _check_keys(entry, SOURCE_KEYS)
    return f"{entry['paper']}, {entry['table']}, {entry['url']}"


def _entries(
    table: Mapping[str, Any], sources: Mapping[str, str], averaged: frozenset[str]
) -> list[Published]:
    _check_keys(table, TABLE_KEYS, OPTIONAL)
    count = NUMBERS[table["protocol"]]
    return [
        Published(
            method,
            table["protocol"],
            table["backbone"],
            table["images"],
            table["shots"],
            table.get("trained_on"),
            {name: _numbers(value, count) for name, value in row.items()},
            averaged,
            sources[table["source"]],
        )
        for method, row in table["rows"].items()
    ]


def _check_keys(
    entry: Mapping[str, Any], needed: set[str], optional: set[str] | None = None
) -> None:
    wrong = (entry.keys() - needed - (optional or set())) | (needed - entry.keys())
    if wrong:
        raise ValueError(f"each entry has the keys {', '.join(sorted(needed))}, see {wrong}")


def _numbers(value: Any, count: int) -> tuple[float, ...]:
    numbers = tuple(float(number) for number in (value if isinstance(value, list) else [value]))
    if len(numbers) != count or not all(0 <= number <= 100 for number in numbers):
        raise ValueError(f"{value} should be {count} accuracies in percent")
    return numbers
