"""Figures of tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dassl.utils import UsageError
from scripts.report.render import heading
from scripts.report.statistics import Cell
from scripts.report.table import Table
from scripts.runner.files import replacing

PANELS = 4  # beside each other


def plot_bars(tables: Sequence[Table], path: Path) -> None:
    """Draw the tables below each other: bars are averages, with std and a point for each seed.

    A cell without an average (a seed is missing) has its points and no bar; published rows are
    lighter.

    Raises:
        UsageError: ``path`` ends in no format of figures, or cannot be written.
    """
    columns = max(len(table.columns) for table in tables)
    figure = _figure((4 + 1.8 * columns, 4.5 * len(tables)), path)
    rows = figure.subplots(len(tables), squeeze=False)
    for table, axes in zip(tables, rows[:, 0], strict=True):
        _plot_table(table, axes)
    _save(figure, path)


def is_curve(table: Table) -> bool:
    """Has the table several numbers of shots, so that it is a curve?"""
    return len([column for column in table.columns if _shots(column) is not None]) > 2


def plot_curves(tables: Sequence[Table], path: Path) -> None:
    """Draw few-shot curves, one panel a table: averages over the shots, with std.

    The zero-shot model is a star at 0 shots. Where an average is missing the curve has a gap.

    Raises:
        UsageError: ``path`` ends in no format of figures, or cannot be written.
    """
    across = min(PANELS, len(tables))
    down = -(-len(tables) // across)
    figure = _figure((5.5 * across, 4.5 * down), path)
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for axes, table in zip(panels, tables, strict=False):
        _plot_curve(table, axes)
    for axes in panels[len(tables) :]:
        axes.set_axis_off()
    _save(figure, path)


def _figure(size: tuple[float, float], path: Path) -> Figure:
    figure = Figure(size, layout="constrained")  # without pyplot: a file, never a window
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in formats:
        raise UsageError(f"cannot draw {path}: its name must end in one of .{', .'.join(formats)}")
    return figure


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _shots(column: str) -> int | None:
    """The number of shots of a column; None for another kind of column."""
    count, _, word = column.partition(" ")
    return int(count) if word in ("shot", "shots") else None


def _plot_curve(table: Table, axes: Axes) -> None:
    for row in table.rows:
        found = {_shots(column): cell for column, cell in row.cells.items()}
        shots = sorted(x for x in found if x is not None)
        means, stds = _numbers([found[x] for x in shots])
        mark, size = ("*", 11) if shots == [0] else ("o-", 6)
        alpha = 0.45 if row.source else 1.0
        axes.errorbar(
            shots, means, stds, fmt=mark, markersize=size, capsize=3, alpha=alpha, label=row.method
        )
    axes.set_xticks([x for x in map(_shots, table.columns) if x is not None])
    axes.set_xlabel("labeled training images per class")
    axes.set_ylabel("accuracy (%)")
    title = table.about.get("dataset", table.title)
    axes.set_title(f"{title}\n{table.about['backbone']}, {table.about['images']}", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _numbers(cells: Sequence[Cell]) -> tuple[list[float], list[float]]:
    """Averages and standard deviations; NaN where there is none."""
    means = [float("nan") if cell.mean is None else cell.mean for cell in cells]
    return means, [float("nan") if cell.std is None else cell.std for cell in cells]


def _plot_table(table: Table, axes: Axes) -> None:
    positions = np.arange(len(table.columns))
    width = 0.8 / len(table.rows)
    for index, row in enumerate(table.rows):
        centres = positions + (index - (len(table.rows) - 1) / 2) * width
        cells = [row.cells.get(column, Cell({})) for column in table.columns]
        means, stds = _numbers(cells)
        alpha = 0.3 if row.source else 0.75
        axes.bar(centres, means, width * 0.92, yerr=stds, capsize=3, label=row.method, alpha=alpha)
        for centre, cell in zip(centres, cells, strict=True):
            axes.plot([centre] * len(cell.values), list(cell.values.values()), "k.", markersize=4)
    axes.set_xticks(positions, table.columns)
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 100)
    axes.set_title(heading(table), fontsize=9)
    axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.08))
