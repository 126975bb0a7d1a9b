"""The LaTeX of result tables: caption, label, bold and escaped characters."""

from collections.abc import Mapping

import pytest

from scripts.tables.load import Found
from scripts.tables.render import latex
from scripts.tables.rows import NOT_TRAINED, Row
from scripts.tables.statistics import Cell, published
from scripts.tables.tables import Table

ABOUT = {"dataset": "Critters", "backbone": "critters_vit"}


def row(method: str, cells: Mapping[str, Cell], **more: str) -> Row:
    return Row(method, "base", **{"selection": "last_step", "cells": cells, **more})


def table(*rows: Row, columns: tuple[str, ...] = ("base", "new")) -> Table:
    return Table("Base to new classes", ABOUT, columns, rows, ())


def seeds(*values: float) -> Cell:
    return Cell(dict(enumerate(values, start=1)))


def line_of(text: str, method: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(f"{method} &")]
    return line


def caption(text: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(r"\caption{")]
    return line.removeprefix(r"\caption{").removesuffix("}")


def test_the_best_of_each_column_is_bold() -> None:
    low = row("low", {"base": seeds(70.0, 72.0), "new": seeds(61.0, 62.0)})
    high = row("high", {"base": seeds(71.0, 73.0), "new": seeds(59.0, 60.0)})
    text = latex([table(low, high)], Found())
    assert line_of(text, "low").endswith(r"& 71.00 $\pm$ 1.41 & \textbf{61.50} $\pm$ 0.71 \\")
    assert line_of(text, "high").endswith(r"& \textbf{72.00} $\pm$ 1.41 & 59.50 $\pm$ 0.71 \\")


def test_averages_that_are_printed_equally_are_both_bold() -> None:
    first = row("first", {"base": seeds(71.001)})
    second = row("second", {"base": seeds(71.004)})
    third = row("third", {"base": seeds(70.99)})
    text = latex([table(first, second, third, columns=("base",))], Found())
    assert text.count(r"\textbf{71.00}") == 2
    assert text.count(r"\textbf") == 2


def test_published_rows_and_missing_averages_compete_by_their_averages() -> None:
    ours = row("ours", {"base": seeds(70.0)})
    gap = row("gap", {"base": Cell({1: 99.0}, missing=(2,))})
    paper = row("paper", {"base": published(75.0)}, source="a paper")
    text = latex([table(ours, gap, paper, columns=("base",))], Found())
    assert line_of(text, "paper").endswith(r"& \textbf{75.00} \\")
    assert line_of(text, "gap").endswith(r"& n/a \\")
    assert text.count(r"\textbf") == 1


def test_a_single_row_has_no_best() -> None:
    text = latex([table(row("CoOp", {"base": seeds(70.0)}))], Found())
    assert r"\textbf" not in text
    assert "bold" not in text


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([seeds(1.0, 2.0, 3.0)] * 2, r"average $\pm$ sample standard deviation over 3 seeds"),
        (
            [seeds(1.0), seeds(1.0, 2.0)],
            r"average $\pm$ sample standard deviation over 1 to 2 seeds",
        ),
        ([seeds(1.0), seeds(2.0)], "1 seed"),
        ([Cell({1: 1.0}, missing=(2,)), Cell({}, missing=(1, 2))], ""),
    ],
)
def test_caption_has_the_facts_the_unit_and_the_number_of_seeds(
    cells: list[Cell], words: str
) -> None:
    rows = [row(f"method {index}", {"base": cell}) for index, cell in enumerate(cells)]
    rows.append(row("zero-shot CLIP", {"base": seeds(50.0)}, selection=NOT_TRAINED))
    found = caption(latex([table(*rows, columns=("base",))], Found()))
    start = r"Base to new classes (dataset Critters, backbone critters\_vit). Accuracy in percent"
    bold = ", the best of each column is bold" if words else ""
    assert found == f"{start}{', ' if words else ''}{words}{bold}."


def test_labels_differ() -> None:
    one = table(row("CoOp", {"base": seeds(70.0)}))
    text = latex([one, one, one], Found())
    labels = [line for line in text.splitlines() if line.startswith(r"\label")]
    name = "tab:base-to-new-classes-critters"
    assert labels == [rf"\label{{{name}}}", rf"\label{{{name}-2}}", rf"\label{{{name}-3}}"]


def test_special_characters_are_escaped() -> None:
    own = row(r"a_b%c&d#e$f{g}h~i^j\k<l>m", {"base": seeds(70.0)})
    text = latex([table(own)], Found())
    assert (
        r"a\_b\%c\&d\#e\$f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k"
        r"\textless{}l\textgreater{}m & base"
    ) in text
