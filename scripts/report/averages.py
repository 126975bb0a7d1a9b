"""Averages over datasets, as the papers take them: the mean of the datasets' averages.

An average stands only where every dataset has its own; otherwise a note names what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from scripts.report.load import Run
from scripts.report.published import AVERAGE
from scripts.report.rows import Options, Row, grouped_rows, protocol_setting, setting, varied
from scripts.report.statistics import Cell, average

BETWEEN = " / "  # dataset and column, where the cells of several datasets are side by side


def average_rows(
    members: Sequence[Run],
    names: Sequence[str],
    columns: Sequence[str],
    column: Callable[[Run], str],
    options: Options,
) -> tuple[list[Row], list[str]]:
    """Rows of averages over the datasets ``names``, and notes on what they lack.

    Args:
        columns: the columns of the averages.
        column: which of them a run belongs to.
    """
    wanted = [run for run in members if run.dataset in names]
    wide = grouped_rows(
        wanted,
        lambda run: f"{run.dataset}{BETWEEN}{column(run)}",
        options,
        (protocol_setting, setting),
        where=lambda run: run.dataset,
    )
    rows, notes = [], []
    for row, group in wide:
        there = {run.dataset for run in group}
        if len(there) == 1:
            notes.append(f"{row.method} ({row.config}): {there.pop()} only, so it has no average")
            continue
        cells = {}
        for title in columns:
            own = {name: row.cells.get(f"{name}{BETWEEN}{title}", Cell({})) for name in names}
            if any(cell.values for cell in own.values()):
                cells[title] = average(list(own.values()))
                notes += lacking(row, title, own)
        rows.append(replace(row, cells=cells))
        notes += varied(row, group, lambda run: run.dataset)
    return rows, notes


def with_average(rows: Sequence[Row], names: Sequence[str]) -> tuple[list[Row], list[str]]:
    """The rows with a column "average" over the columns ``names``, and notes on what they lack."""
    full, notes = [], []
    for row in rows:
        own = {name: row.cells.get(name, Cell({})) for name in names}
        full.append(replace(row, cells={**row.cells, AVERAGE: average(list(own.values()))}))
        notes += lacking(row, AVERAGE, own)
    return full, notes


def lacking(row: Row, column: str, cells: Mapping[str, Cell]) -> list[str]:
    """A note on the datasets without an average, if there are any."""
    names = [name for name, cell in cells.items() if cell.mean is None]
    if not names:
        return []
    missing = ", ".join(names) if len(names) < len(cells) else "all of them"
    what = "no average" if column == AVERAGE else f"no average of {column}"
    return [f"{row.method} ({row.config}): {what}, for lack of {missing}"]
