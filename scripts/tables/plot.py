"""Plot tables as points and few-shot curves; matplotlib is imported when a plot is drawn.

Every average has its value in print, and every seed a point of its method's color. An axis shows
the range of the plotted values only; its label states this range.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import ceil, floor
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from dassl.utils import UsageError
from scripts.runner.files import replacing
from scripts.tables.render import cell_text, heading
from scripts.tables.rows import Row
from scripts.tables.statistics import Cell
from scripts.tables.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design", https://jfly.uni-koeln.de/color: told apart with every
# kind of color vision. Yellow is the last because it is faint on white.
COLORS = (
    *("#000000", "#E69F00", "#56B4E9", "#009E73"),
    *("#0072B2", "#D55E00", "#CC79A7", "#F0E442"),
)
MARKERS = "osD^v"  # the next one after each round of the colors
ZERO_SHOT_MARKER = "*"
PANELS_PER_LINE = 4  # of points
CURVES_PER_LINE = 2
NAME_WIDTH = 34  # characters of a line of a method's name
LINE = 0.15  # inches of a line of text
ROW = 0.3  # inches of a method's row, at least
SMALL = 8  # points
CHARACTER = 0.075  # inches of a character of this size
BESIDE = 0.1  # distance of the seeds' points from the average: inches of a line, shares of a step
KEY = "large: average, with the standard deviation over the seeds; small: each seed"


def plot_points(tables: Sequence[Table]) -> Figure:
    """Return a figure with the tables below each other: a panel for each column, a line per method.

    A cell without an average has its seeds' points only, and the label "n/a". The points of
    published rows are hollow.
    """
    lines = [-(-len(table.columns) // PANELS_PER_LINE) for table in tables]
    heights = [
        down * (_row_centers(table)[-1] + 1.2) + 0.7
        for table, down in zip(tables, lines, strict=True)
    ]
    across = max(min(len(table.columns), PANELS_PER_LINE) for table in tables)
    figure = _figure(_names_width(tables) + 3.1 * across, sum(heights))
    parts = figure.subfigures(len(tables), squeeze=False, height_ratios=heights)[:, 0]
    for part, table, down in zip(parts, tables, lines, strict=True):
        columns = min(len(table.columns), PANELS_PER_LINE)
        panels = part.subplots(down, columns, squeeze=False, sharey=True)
        part.suptitle(_wrapped_heading(table, figure.get_figwidth()), fontsize=9)
        for axes, column in zip(panels.flat, table.columns, strict=False):
            _plot_column(table, column, axes)
        for axes in panels.flat[len(table.columns) :]:
            axes.set_axis_off()
    return figure


def is_curve(table: Table) -> bool:
    """Return whether the table has columns for more than two numbers of shots."""
    return sum(_shots(column) is not None for column in table.columns) > 2


def plot_curves(tables: Sequence[Table]) -> Figure:
    """Return a figure of averages with std by the number of shots, one panel for each table.

    The averages are printed below the curves, a line for each method. The zero-shot model is a star
    at 0 shots. A curve has a gap where an average is missing.
    """
    across = min(CURVES_PER_LINE, len(tables))
    lines = [tables[start : start + across] for start in range(0, len(tables), across)]
    below = [max(_row_centers(table)[-1] for table in line) + 0.3 for line in lines]
    heights = [3.0 + height + 1.2 for height in below]
    width = _names_width(tables) + 4.2
    figure = _figure(width * across, sum(heights))
    parts = figure.subfigures(len(lines), across, squeeze=False, height_ratios=heights)
    for line, height, own in zip(lines, below, parts, strict=True):
        for table, part in zip(line, own, strict=False):
            curves, values = part.subplots(2, height_ratios=(3.0, height), sharex=True)
            _plot_curves(table, curves)
            _print_values(table, values)
            values.set_ylim(height, 0)
            part.suptitle(_wrapped_heading(table, width), fontsize=9)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the file's suffix.

    Raises:
        UsageError: matplotlib does not support the suffix of ``path``, or it cannot be written.
    """
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in formats:
        raise UsageError(f"cannot plot to {path}; use the suffix .{', .'.join(formats)}")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # slow to import; without pyplot, so no window opens

    return Figure((width, height), layout="constrained")


def _shots(column: str) -> int | None:
    """Return the number of shots of a column, or None for another kind of column."""
    count, _, word = column.partition(" ")
    return int(count) if word in ("shot", "shots") else None


def _styles(table: Table) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Yield each row with its color and marker; hollow if published, a star if zero-shot."""
    for index, row in enumerate(table.rows):
        color = COLORS[index % len(COLORS)]
        face = "white" if row.source else color
        marker = MARKERS[index // len(COLORS) % len(MARKERS)]
        if [_shots(column) for column in row.cells] == [0]:
            marker = ZERO_SHOT_MARKER
        yield row, {"color": color, "marker": marker, "markerfacecolor": face}


def _plot_column(table: Table, column: str, axes: Axes) -> None:
    """Plot one column: averages with std and seeds along the axis, the values at its right."""
    centers = _row_centers(table)
    for y, (row, style) in zip(centers, _styles(table), strict=True):
        cell = row.cells.get(column, Cell({}))
        _plot_seeds(axes, list(cell.values.values()), [y + BESIDE] * len(cell.values), style)
        if cell.mean is not None:
            axes.plot([cell.mean], [y], markersize=7, zorder=3, **style)
        if cell.mean is not None and cell.std is not None:
            axes.errorbar([cell.mean], [y], xerr=[cell.std], fmt="none", **_bars(style))
        axes.annotate(
            cell_text(cell),
            (1, y),
            (5, 0),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
        )
    low, high = _range([row.cells.get(column, Cell({})) for row in table.rows])
    axes.set_xlim(low, high)
    axes.set_xlabel(_axis_label(low, high), fontsize=SMALL)
    axes.set_title(column, fontsize=9)
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.grid(axis="x", alpha=0.3)
    _name_rows(table, axes)
    axes.set_ylim(centers[-1] + 0.3, 0)  # the first row is at the top


def _plot_curves(table: Table, axes: Axes) -> None:
    columns = _curve_columns(table)
    for row, style in _styles(table):
        cells = [row.cells.get(column, Cell({})) for column in columns]
        means = [float("nan") if cell.mean is None else cell.mean for cell in cells]
        axes.plot(range(len(cells)), means, markersize=7, zorder=3, label=row.method, **style)
        for index, cell in enumerate(cells):
            xs = [index + BESIDE] * len(cell.values)
            _plot_seeds(axes, xs, list(cell.values.values()), style)
            if cell.mean is not None and cell.std is not None:
                axes.errorbar([index], [cell.mean], yerr=[cell.std], fmt="none", **_bars(style))
    low, high = _range([row.cells.get(name, Cell({})) for row in table.rows for name in columns])
    axes.set_ylim(low, high)
    axes.set_ylabel(_axis_label(low, high), fontsize=SMALL)
    axes.set_xlabel("labeled training images per class", fontsize=SMALL)
    axes.set_xticks(range(len(columns)), [str(_shots(column)) for column in columns])
    axes.tick_params(labelsize=SMALL, labelbottom=True)
    axes.grid(alpha=0.3)


def _print_values(table: Table, axes: Axes) -> None:
    """Print the averages below the numbers of shots, a line for each method with its marker."""
    columns = _curve_columns(table)
    for y, (row, style) in zip(_row_centers(table), _styles(table), strict=True):
        place = axes.get_yaxis_transform()
        axes.plot([0], [y], markersize=7, clip_on=False, transform=place, **style)
        for position, column in enumerate(columns):
            cell = row.cells.get(column, Cell({}))
            text = "n/a" if cell.mean is None else f"{cell.mean:.2f}"
            axes.text(position, y, text, ha="center", va="center", fontsize=SMALL)
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.tick_params(length=0, pad=8, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    _name_rows(table, axes)


def _curve_columns(table: Table) -> list[str]:
    return [column for column in table.columns if _shots(column) is not None]


def _plot_seeds(
    axes: Axes, xs: Sequence[float], ys: Sequence[float], style: dict[str, Any]
) -> None:
    """Plot a small point for each seed."""
    small = {**style, "marker": ".", "markersize": 5, "linestyle": "none", "alpha": 0.6}
    axes.plot(xs, ys, **small)


def _bars(style: dict[str, Any]) -> dict[str, Any]:
    return {"capsize": 3, "ecolor": style["color"], "elinewidth": 1}


def _name_rows(table: Table, axes: Axes) -> None:
    names = [fill(row.method, NAME_WIDTH) for row in table.rows]
    axes.set_yticks(_row_centers(table), names, fontsize=SMALL)


def _range(cells: Sequence[Cell]) -> tuple[int, int]:
    """Return an axis from 0 to 100 cut to the seeds, averages and error bars, with a margin."""
    values = [value for cell in cells for value in cell.values.values()]
    for cell in cells:
        if cell.mean is not None:
            values += [cell.mean - (cell.std or 0), cell.mean + (cell.std or 0)]
    if not values:
        return 0, 100
    margin = max(0.5, 0.05 * (max(values) - min(values)))
    return max(0, floor(min(values) - margin)), min(100, ceil(max(values) + margin))


def _axis_label(low: int, high: int) -> str:
    return f"accuracy (%), axis from {low} to {high}"


def _row_centers(table: Table) -> list[float]:
    """Return the distance of each row from the top in inches: a long name takes several lines."""
    counts = [fill(row.method, NAME_WIDTH).count("\n") + 1 for row in table.rows]
    heights = [max(ROW, count * LINE + 0.08) for count in counts]
    return [end - height / 2 for end, height in zip(accumulate(heights), heights, strict=True)]


def _names_width(tables: Sequence[Table]) -> float:
    """Return the width in inches of the longest line of a method's name."""
    names = [fill(row.method, NAME_WIDTH) for table in tables for row in table.rows]
    return 0.3 + CHARACTER * max(len(line) for name in names for line in name.split("\n"))


def _wrapped_heading(table: Table, width: float) -> str:
    return "\n".join(fill(text, int(width / CHARACTER)) for text in (heading(table), KEY))
