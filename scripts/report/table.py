"""A table of results, and what the tables of all protocols have in common."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from scripts.report.images import LABELED, by_images, describe, images, shares_labeled
from scripts.report.load import Run
from scripts.report.published import Published
from scripts.report.rows import Options, Row, group_by
from scripts.report.statistics import Cell


@dataclass(frozen=True)
class Table:
    """``about`` is what all rows share; ``notes`` say what is missing or strange."""

    title: str
    about: Mapping[str, str]
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str]


def common(run: Run) -> tuple[str, str]:
    """What all rows of any table share."""
    return (run.backbone, run.split)


def split(
    runs: Sequence[Run], same: Callable[[Run], Hashable], more: Callable[[Run], Hashable]
) -> list[list[Run]]:
    """The runs of each table; those without training join every table of their kind.

    Args:
        same: what all rows share, beside backbone and split.
        more: what else the trained ones share, beside their images.
    """
    tables = []
    for members in group_by(runs, lambda run: (same(run), *common(run))):
        references = [run for run in members if run.is_zero_shot]
        trained = by_images((run for run in members if not run.is_zero_shot), more)
        tables += [references + part for part in trained] or [references]
    return tables


def shots_of(members: Sequence[Run]) -> str:
    """The shots that the trained rows share."""
    shots = next((run.shots for run in members if not run.is_zero_shot), None)
    return "none" if shots is None else "all images" if shots < 1 else str(shots)


def about(members: Sequence[Run], name: str, value: str, **more: str) -> dict[str, str]:
    """What a table says of all its rows: ``name`` first, then what any table says, then more."""
    shared = {"backbone": members[0].backbone, "split": members[0].split}
    return {name: value, **shared, **more, "images": describe(members)}


def published_rows(
    options: Options,
    protocol: str,
    members: Sequence[Run],
    cells: Callable[[Published], Mapping[str, Cell]],
) -> list[Row]:
    """The rows of papers in the setting of ``members``; those without a cell are left out.

    Args:
        cells: the columns that an entry has in this table.
    """
    trained = [run for run in members if not run.is_zero_shot]
    rows = []
    for entry in options.published:
        if entry.protocol != protocol or entry.backbone != members[0].backbone:
            continue
        if members[0].split != "test" or not (entry.is_zero_shot or _fits(entry, trained)):
            continue
        found = cells(entry)
        if found:
            name = f"{entry.method} (published, not run here)"
            rows.append(Row(name, "-", "-", found, source=entry.source))
    return rows


def _fits(entry: Published, trained: Sequence[Run]) -> bool:
    if entry.images == LABELED:
        same_images = all(shares_labeled(images(run)) for run in trained)
    else:
        same_images = all(images(run) == entry.images for run in trained)
    return bool(trained) and same_images and all(run.shots == entry.shots for run in trained)
