"""Plot tables as bars and few-shot curves; matplotlib is imported when a plot is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dassl.utils import UsageError
from scripts.runner.files import replacing
from scripts.tables.render import heading
from scripts.tables.statistics import Cell
from scripts.tables.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS_PER_LINE = 4


def plot_bars(tables: Sequence[Table], path: Path) -> None:
    """Plot the tables below each other: bars with std, and a point for each seed.

    A cell without an average has points and no bar. Published rows are lighter.

    Raises:
        UsageError: matplotlib does not support the suffix of ``path``, or it cannot be written.
    """
    columns = max(len(table.columns) for table in tables)
    with _figure((4 + 1.8 * columns, 4.5 * len(tables)), path) as figure:
        panels = figure.subplots(len(tables), squeeze=False)
        for table, axes in zip(tables, panels[:, 0], strict=True):
            _plot_bars(table, axes)


def is_curve(table: Table) -> bool:
    """Return whether the table has columns for more than two numbers of shots."""
    return sum(_shots(column) is not None for column in table.columns) > 2


def plot_curves(tables: Sequence[Table], path: Path) -> None:
    """Plot averages with std against the number of shots, one panel for each table.

    The zero-shot model is a star at 0 shots. A curve has a gap where an average is missing.

    Raises:
        UsageError: matplotlib does not support the suffix of ``path``, or it cannot be written.
    """
    across = min(PANELS_PER_LINE, len(tables))
    down = -(-len(tables) // across)
    with _figure((5.5 * across, 4.5 * down), path) as figure:
        panels = list(figure.subplots(down, across, squeeze=False).flat)
        for axes, table in zip(panels, tables, strict=False):
            _plot_curve(table, axes)
        for axes in panels[len(tables) :]:
            axes.set_axis_off()


@contextmanager
def _figure(size: tuple[float, float], path: Path) -> Iterator[Figure]:
    """Yield an empty figure, and save it to ``path`` afterward."""
    from matplotlib.figure import Figure  # slow to import; without pyplot, so no window opens

    figure = Figure(size, layout="constrained")
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in formats:
        raise UsageError(f"cannot plot to {path}; use the suffix .{', .'.join(formats)}")
    yield figure
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _shots(column: str) -> int | None:
    """Return the number of shots of a column, or None for another kind of column."""
    count, _, word = column.partition(" ")
    return int(count) if word in ("shot", "shots") else None


def _plot_curve(table: Table, axes: Axes) -> None:
    for row in table.rows:
        found = {_shots(column): cell for column, cell in row.cells.items()}
        shots = sorted(x for x in found if x is not None)
        cells = [found[x] for x in shots]
        mark, size = ("*", 11) if shots == [0] else ("o-", 6)
        alpha = 0.45 if row.source else 1.0
        means, label = _means(cells), row.method
        (line,) = axes.plot(shots, means, mark, markersize=size, alpha=alpha, label=label)
        _plot_error_bars(axes, shots, cells, line.get_color(), alpha)
    axes.set_xticks([x for x in map(_shots, table.columns) if x is not None])
    axes.set_xlabel("labeled training images per class")
    axes.set_ylabel("accuracy (%)")
    title = table.about.get("dataset", table.title)
    axes.set_title(f"{title}\n{table.about['backbone']}, {table.about['images']}", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _plot_bars(table: Table, axes: Axes) -> None:
    width = 0.8 / len(table.rows)
    for index, row in enumerate(table.rows):
        offset = (index - (len(table.rows) - 1) / 2) * width
        centers = [position + offset for position in range(len(table.columns))]
        cells = [row.cells.get(column, Cell({})) for column in table.columns]
        alpha = 0.3 if row.source else 0.75
        axes.bar(centers, _means(cells), width * 0.92, label=row.method, alpha=alpha)
        _plot_error_bars(axes, centers, cells, "k")
        for center, cell in zip(centers, cells, strict=True):
            axes.plot([center] * len(cell.values), list(cell.values.values()), "k.", markersize=4)
    axes.set_xticks(range(len(table.columns)), table.columns)
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 100)
    axes.set_title(heading(table), fontsize=9)
    axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.08))


def _means(cells: Sequence[Cell]) -> list[float]:
    return [float("nan") if cell.mean is None else cell.mean for cell in cells]


def _plot_error_bars(
    axes: Axes, xs: Sequence[float], cells: Sequence[Cell], color: str, alpha: float = 1.0
) -> None:
    """Plot the std of the cells that have one: matplotlib 3.7 fails if all error bars are NaN."""
    bars = [
        (x, c.mean, c.std) for x, c in zip(xs, cells, strict=True) if None not in (c.mean, c.std)
    ]
    if bars:
        positions, means, stds = zip(*bars, strict=True)
        axes.errorbar(positions, means, stds, fmt="none", capsize=3, ecolor=color, alpha=alpha)
