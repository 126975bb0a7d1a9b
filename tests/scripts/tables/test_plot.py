"""Figures of result tables, by the objects of their axes."""

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from scripts.tables.plot import COLORS, plot_curves, plot_points
from scripts.tables.render import cell_text
from scripts.tables.rows import Row
from scripts.tables.statistics import Cell, published
from scripts.tables.tables import Table

LONG = (
    "CoOp + TextRefiner, a variant with a long description (cache size 25, alpha 0.2, "
    "momentum 0.8, LOCAL_ON global)"
)
COLUMNS = ("base", "new", "H")
DATASETS = tuple(f"DescribableTextures{number}" for number in range(12))
SHOTS = ("0 shots", "1 shot", "2 shots", "4 shots", "8 shots", "16 shots")
# https://jfly.uni-koeln.de/color, in its order
OKABE_ITO = {
    *((0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115)),
    *((240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)),
}


def table(methods: int, columns: tuple[str, ...] = COLUMNS, **cells: Cell) -> Table:
    """Return a table with ``methods`` rows; the second one has a long name."""
    about = {
        "dataset": "Critters",
        "backbone": "ViT-B/16",
        "images": "the few-shot ones without labels (DISTILL_ON, MODAL: few_shot base2novel)",
    }
    rows = [
        Row(
            LONG if index == 1 else f"method {index}",
            "base",
            "last_step",
            {
                column: Cell({1: 60.0 + index + place, 2: 61.5 + index, 3: 62.25 + place})
                for place, column in enumerate(columns)
            }
            | cells,
        )
        for index in range(methods)
    ]
    return Table("Base to new classes", about, columns, rows, ())


def drawn(figure: Figure) -> Figure:
    figure.draw_without_rendering()
    return figure


def texts(axes: Axes) -> list[Text]:
    return [text for text in axes.texts if text.get_text()]


def seeds(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_marker() == "."]


def averages(axes: Axes) -> list[Line2D]:
    """Return the lines of the averages, without the caps of error bars and the seeds' points."""
    return [line for line in axes.lines if line.get_markersize() == 7]


def test_every_average_has_its_value_in_its_row() -> None:
    content = table(3)
    figure = drawn(plot_points([content]))
    assert len(figure.axes) == len(COLUMNS)
    for axes, column in zip(figure.axes, COLUMNS, strict=True):
        assert axes.get_title() == column
        cells = [row.cells[column] for row in content.rows]
        assert [text.get_text() for text in texts(axes)] == [cell_text(cell) for cell in cells]
        assert [line.get_xdata()[0] for line in averages(axes)] == [cell.mean for cell in cells]
        heights = [line.get_ydata()[0] for line in averages(axes)]
        assert [text.xy[1] for text in texts(axes)] == heights == list(axes.get_yticks())


def test_a_cell_without_an_average_is_marked_and_shows_its_seeds() -> None:
    content = table(2, base=Cell({1: 60.0, 3: 62.0}, missing=(2,)))
    axes, new, _ = drawn(plot_points([content])).axes
    assert [text.get_text() for text in texts(axes)] == ["n/a", "n/a"]
    assert [list(line.get_xdata()) for line in seeds(axes)] == [[60.0, 62.0]] * 2
    assert not averages(axes)
    assert len(averages(new)) == 2


def test_every_seed_is_a_point_of_its_method_s_color() -> None:
    content = table(10)
    for axes, column in zip(drawn(plot_points([content])).axes, COLUMNS, strict=True):
        for row, line, average in zip(content.rows, seeds(axes), averages(axes), strict=True):
            assert list(line.get_xdata()) == list(row.cells[column].values.values())
            assert line.get_color() == average.get_color()
            assert abs(line.get_ydata()[0] - average.get_ydata()[0]) < 0.15  # inches


def test_every_seed_is_a_point_of_the_curves() -> None:
    content = table(2, SHOTS[1:])
    axes, _ = drawn(plot_curves([content])).axes
    found = [list(line.get_ydata()) for line in seeds(axes)]
    assert found == [
        list(cell.values.values()) for row in content.rows for cell in row.cells.values()
    ]


def test_axes_are_cut_to_the_values_and_say_so() -> None:
    content = table(1, base=Cell({1: 70.0, 2: 72.0, 3: 74.0}), new=Cell({1: 99.9}), H=Cell({}))
    base, new, empty = drawn(plot_points([content])).axes
    assert base.get_xlim() == (69, 75)
    assert base.get_xlabel() == "accuracy (%), axis from 69 to 75"
    assert new.get_xlim() == (99, 100)
    assert empty.get_xlim() == (0, 100)
    curves, _ = drawn(plot_curves([table(1, SHOTS[1:4])])).axes
    low, high = curves.get_ylim()
    assert curves.get_ylabel() == f"accuracy (%), axis from {low:.0f} to {high:.0f}"
    assert 50 < low < 61.5 < 64.25 < high < 75


def test_error_bars_are_within_the_axis() -> None:
    content = table(1, base=Cell({1: 50.0, 2: 90.0}))  # the std is 28.3: 41.7 to 98.3
    axes = drawn(plot_points([content])).axes[0]
    low, high = axes.get_xlim()
    assert low < 70 - 28.3
    assert high > 70 + 28.3


def test_colors_are_the_palette_of_okabe_and_ito_and_then_other_markers() -> None:
    assert {tuple(bytes.fromhex(color[1:])) for color in COLORS} == OKABE_ITO
    for axes in (
        drawn(plot_points([table(17)])).axes[0],
        drawn(plot_curves([table(17, SHOTS)])).axes[0],
    ):
        styles = [(to_hex(line.get_color()), line.get_marker()) for line in averages(axes)]
        assert [color for color, _ in styles] == [
            color.lower() for color in (*COLORS * 2, COLORS[0])
        ]
        assert len(set(styles)) == 17


def test_published_rows_are_hollow_and_zero_shot_is_a_star() -> None:
    content = table(1, SHOTS)
    paper = Row("paper", "-", "-", {"1 shot": published(60.0)}, source="a paper")
    zero = Row("zero-shot CLIP", "-", "not trained", {"0 shots": Cell({1: 55.0})})
    curves, values = drawn(
        plot_curves([Table("", content.about, SHOTS, [*content.rows, paper, zero], ())])
    ).axes
    for axes in (curves, values):
        own, theirs, star = averages(axes)
        assert (own.get_markerfacecolor(), theirs.get_markerfacecolor()) == (COLORS[0], "white")
        assert [own.get_marker(), star.get_marker()] == ["o", "*"]


def test_curves_print_every_average_below_its_number_of_shots() -> None:
    content = table(3, SHOTS, **{"4 shots": Cell({1: 60.0}, missing=(2,))})
    curves, values = drawn(plot_curves([content])).axes
    assert [label.get_text() for label in curves.get_xticklabels()] == [
        "0",
        "1",
        "2",
        "4",
        "8",
        "16",
    ]
    found = {text.get_position(): text.get_text() for text in texts(values)}
    for y, row in zip(values.get_yticks(), content.rows, strict=True):
        words = [found[x, y] for x in range(len(SHOTS))]
        means = [row.cells[column].mean for column in SHOTS]
        assert words == ["n/a" if mean is None else f"{mean:.2f}" for mean in means]
        assert "n/a" in words
    assert curves.get_xlim() == values.get_xlim()


def test_a_curve_has_a_gap_where_an_average_is_missing() -> None:
    content = table(1, SHOTS[1:], **{"4 shots": Cell({1: 60.0}, missing=(2,))})
    (line,) = averages(drawn(plot_curves([content])).axes[0])
    assert list(np.isnan(line.get_ydata())) == [False, False, True, False, False]


FIGURES: dict[str, Any] = {
    **{f"{count} methods": (plot_points, [table(count)]) for count in (1, 2, 9, 17)},
    "long names only": (
        plot_points,
        [Table("Base to new classes", table(1).about, COLUMNS, [table(2).rows[1]] * 8, ())],
    ),
    "one column": (plot_points, [table(3, ("average",))]),
    "twelve datasets": (plot_points, [table(9, DATASETS)]),
    "two tables": (plot_points, [table(2), table(9, DATASETS)]),
    "a curve": (plot_curves, [table(1, SHOTS)]),
    "many curves": (plot_curves, [table(17, SHOTS)]),
    "curves of three datasets": (plot_curves, [table(9, SHOTS), table(2, SHOTS), table(1, SHOTS)]),
}


@pytest.mark.filterwarnings("error")  # constrained layout warns if there is no room for the axes
@pytest.mark.parametrize("name", FIGURES)
def test_no_text_overlaps_or_is_cut_off(name: str) -> None:
    draw, tables = FIGURES[name]
    figure = drawn(draw(tables))
    hidden = hidden_texts(figure)
    boxes = {
        (number, text.get_text()): text.get_window_extent()
        for number, text in enumerate(figure.findobj(Text))
        if text.get_visible() and text.get_text().strip() and text not in hidden
    }
    methods = {row.method for content in tables for row in content.rows}
    printed = {" ".join(text.split()) for _, text in boxes}
    assert methods <= printed
    for text, box in boxes.items():
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, text
    for (text, box), (other, second) in combinations(boxes.items(), 2):
        assert not box.overlaps(second), (text, other)
    framed = [axes for axes in figure.axes if axes.axison and axes.spines["left"].get_visible()]
    for axes in framed:
        assert axes.bbox.width > 150  # pixels of 100 per inch: room for points
        for text, box in boxes.items():
            assert not box.overlaps(axes.bbox), text


def hidden_texts(figure: Figure) -> set[Text]:
    """Return the texts that are not drawn: of axes switched off, and of ticks beyond an axis."""
    hidden: set[Text] = set()
    for axes in figure.axes:
        if not axes.axison:
            hidden.update(axes.findobj(Text))
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in axis.get_major_ticks():
                if not min(limits) <= tick.get_loc() <= max(limits):
                    hidden.update((tick.label1, tick.label2))
    return hidden


def test_rows_are_as_high_as_their_names() -> None:
    axes = drawn(plot_points([table(3)])).axes[0]
    first, second = np.diff(axes.get_yticks())
    assert first == pytest.approx(second)  # both are beside the long name
    lines = [label.get_text().count("\n") for label in axes.get_yticklabels()]
    assert lines[1] > lines[0] == lines[2] == 0
    plain = drawn(plot_points([table(1)])).axes[0]
    assert all(low < high for low, high in pairwise(axes.get_yticks()))
    assert first > 2 * plain.get_yticks()[0]
