"""Figures of tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dassl.utils import UsageError
from scripts.lib.cells import Cell
from scripts.lib.files import replacing
from scripts.lib.render import heading
from scripts.lib.tables import Table


def plot_bars(tables: Sequence[Table], path: Path) -> None:
    """Draw the tables below each other: bars are averages, with std and a point for each seed.

    A cell without an average (a seed is missing) has its points and no bar.

    Raises:
        UsageError: ``path`` ends in no format of figures, or cannot be written.
    """
    columns = max(len(table.columns) for table in tables)
    size = (4 + 1.8 * columns, 4.5 * len(tables))
    figure = Figure(size, layout="constrained")  # without pyplot: a file, never a window
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in formats:
        raise UsageError(f"cannot draw {path}: its name must end in one of .{', .'.join(formats)}")
    rows = figure.subplots(len(tables), squeeze=False)
    for table, axes in zip(tables, rows[:, 0], strict=True):
        _plot_table(table, axes)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _plot_table(table: Table, axes: Axes) -> None:
    positions = np.arange(len(table.columns))
    width = 0.8 / len(table.rows)
    for index, row in enumerate(table.rows):
        centres = positions + (index - (len(table.rows) - 1) / 2) * width
        cells = [row.cells.get(column, Cell({})) for column in table.columns]
        means = [np.nan if cell.mean is None else cell.mean for cell in cells]
        stds = [np.nan if cell.std is None else cell.std for cell in cells]
        axes.bar(centres, means, width * 0.92, yerr=stds, capsize=3, label=row.method, alpha=0.75)
        for centre, cell in zip(centres, cells, strict=True):
            axes.plot([centre] * len(cell.values), list(cell.values.values()), "k.", markersize=4)
    axes.set_xticks(positions, table.columns)
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 100)
    axes.set_title(heading(table), fontsize=9)
    axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.08))
