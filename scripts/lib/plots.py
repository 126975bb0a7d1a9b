"""Figures of tables."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only: no window, no display

import matplotlib.pyplot as plt
import numpy as np

from dassl.utils import atomic_path
from scripts.lib.render import heading
from scripts.lib.tables import Table


def plot_bars(table: Table, path: Path) -> None:
    """Draw a bar for each method and column: its average, with std and every seed as a point.

    A cell without an average (a seed is missing) has its points and no bar.
    """
    positions = np.arange(len(table.columns))
    width = 0.8 / len(table.rows)
    figure, axes = plt.subplots(figsize=(2 + 2 * len(table.columns), 4.5), layout="constrained")
    for index, row in enumerate(table.rows):
        centres = positions + (index - (len(table.rows) - 1) / 2) * width
        cells = [row.cells.get(column) for column in table.columns]
        means = [np.nan if cell is None or cell.mean is None else cell.mean for cell in cells]
        stds = [np.nan if cell is None or cell.std is None else cell.std for cell in cells]
        axes.bar(centres, means, width * 0.92, yerr=stds, capsize=3, label=row.method, alpha=0.75)
        for centre, cell in zip(centres, cells, strict=True):
            values = [] if cell is None else list(cell.values.values())
            axes.plot([centre] * len(values), values, "k.", markersize=4)
    axes.set_xticks(positions, table.columns)
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 100)
    axes.set_title(heading(table), fontsize=9)
    axes.legend(fontsize=8, ncols=2)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)
