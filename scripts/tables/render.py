"""Render tables as Markdown, CSV, LaTeX and JSON."""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from scripts.runner.files import write_text
from scripts.tables.load import UNFINISHED, UNTESTED, Found
from scripts.tables.rows import NOT_RUN_HERE, NOT_TRAINED
from scripts.tables.statistics import Cell, Paired
from scripts.tables.tables import Table

LEGEND = (
    "Accuracy in percent: average ± sample standard deviation (n - 1) over the seeds. H is the "
    "harmonic mean of the two averages; its ± is that of the seeds' own harmonic means. An average "
    "over datasets is the mean of their averages, given only if none is missing."
)
PAIRS_LEGEND = (
    "Differences are paired: the mean of the pairs' own differences (that of H may differ in its "
    "last digit from the difference of the averages), the 95 % confidence interval of this mean "
    "(Student's t), the number of pairs with the higher value, and the p-value of the two-sided "
    "sign test, which is at least 2 / 2^n for n pairs."
)
ABSENT = "n/a"
RUN_HERE = "run here"


def markdown(tables: Sequence[Table], found: Found) -> str:
    """Return each table with its values by seed and its notes."""
    parts = []
    for table in tables:
        parts += [f"### {heading(table)}", markdown_table(_summary(table))]
        if by_seed := _by_seed(table):
            header = ["Method", "Config", "Seed", *table.columns]
            parts += ["By seed", markdown_table([header, *by_seed])]
        lines = [f"- **Published** {line}" for line in _references(table)]
        lines += [f"- **Note** {note}" for note in table.notes]
        parts.append("\n".join(lines))
    lines = [f"- **{what.capitalize()}** {folder}" for folder, what in found.without_result.items()]
    return "\n\n".join(filter(None, [*parts, "\n".join(lines), LEGEND])) + "\n"


def latex(tables: Sequence[Table], found: Found) -> str:
    r"""Return a table environment (package booktabs) for each table; notes are comments.

    The highest average of a column is bold, with those that are printed equally. Labels such as
    tab:base-to-new-classes-critters are made of the title and the dataset, and numbered if needed.
    """
    parts = [f"% {LEGEND}"]
    labels: list[str] = []
    for table in tables:
        header, *lines = _summary(table)
        best = {column: _best(table, column) for column in table.columns}
        lines = [
            [
                _bold(word) if best.get(name) == word.partition(" ")[0] else _escape(word)
                for name, word in zip(header, line, strict=True)
            ]
            for line in lines
        ]
        body = [" & ".join(line) + r" \\" for line in [list(map(_escape, header)), *lines]]
        labels.append(_label(table, labels))
        parts += [
            *(f"% published: {line}" for line in _references(table)),
            *(f"% {note}" for note in table.notes),
            *(r"\begin{table}[t]", r"\centering"),
            f"\\caption{{{_escape(_caption(table))}}}",
            f"\\label{{{labels[-1]}}}",
            f"\\begin{{tabular}}{{lll{'r' * len(table.columns)}}}",
            *(r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule"),
            *(r"\end{tabular}", r"\end{table}"),
        ]
    parts += [f"% {what}: {folder}" for folder, what in found.without_result.items()]
    return "\n".join(parts) + "\n"


def as_csv(tables: Sequence[Table], found: Found) -> str:
    """Return one line for each cell, without notes and folders without a result."""
    cells = [
        (table, row, column, row.cells[column])
        for table in tables
        for row in table.rows
        for column in table.columns
        if column in row.cells
    ]
    shared = list(dict.fromkeys(key for table in tables for key in table.about))
    seeds = sorted({seed for *_, cell in cells for seed in cell.values})
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    head = ["table", *shared, "method", "config", "selection", "source", "column", "mean", "std"]
    writer.writerow([*head, *(f"seed {seed}" for seed in seeds)])
    for table, row, column, cell in cells:
        about = [table.about.get(key, "") for key in shared]
        numbers = [cell.mean, cell.std, *(cell.values.get(seed) for seed in seeds)]
        words = ["" if number is None else f"{number:.4f}" for number in numbers]
        who = [row.method, row.config, row.selection, row.source or RUN_HERE]
        writer.writerow([table.title, *about, *who, column, *words])
    return file.getvalue()


def as_json(tables: Sequence[Table], found: Found) -> str:
    """Return everything in full precision; unknown values are null."""
    content = {
        "legend": LEGEND,
        "tables": [
            {
                **vars(table),
                "rows": [
                    {
                        **vars(row),
                        "published": bool(row.source),
                        "source": row.source or RUN_HERE,
                        "cells": {name: json_cell(cell) for name, cell in row.cells.items()},
                    }
                    for row in table.rows
                ],
            }
            for table in tables
        ],
        "unfinished": _folders(found, UNFINISHED),
        "untested": _folders(found, UNTESTED),
    }
    return json.dumps(content, indent=2) + "\n"


FORMATS: dict[str, Callable[[Sequence[Table], Found], str]] = {
    "markdown": markdown,
    "csv": as_csv,
    "latex": latex,
    "json": as_json,
}


def save(tables: Sequence[Table], folder: Path, remarks: Sequence[str] = ()) -> str:
    """Write results.json and results.md with ``remarks`` after the tables; return the Markdown."""
    text = "\n".join([markdown(tables, Found()), *filter(None, remarks)])
    write_text(folder / "results.md", text)
    write_text(folder / "results.json", as_json(tables, Found()))
    return text


def heading(table: Table) -> str:
    """Return title and facts, such as "Base to new classes (dataset Critters, shots 16, ...)"."""
    return f"{table.title} ({', '.join(f'{key} {value}' for key, value in table.about.items())})"


def _references(table: Table) -> list[str]:
    """Return one line for each source of published rows, with its methods."""
    methods: dict[str, list[str]] = {}
    for row in table.rows:
        if row.source:
            methods.setdefault(row.source, []).append(row.method.removesuffix(NOT_RUN_HERE))
    return [f"{', '.join(names)}: {source}" for source, names in methods.items()]


def _summary(table: Table) -> list[list[str]]:
    lines = [["Method", "Config", "Selection", *table.columns]]
    for row in table.rows:
        cells = [cell_text(row.cells.get(column)) for column in table.columns]
        lines.append([row.method, row.config, row.selection, *cells])
    return lines


def _by_seed(table: Table) -> list[list[str]]:
    lines = []
    for row in table.rows:
        for seed in sorted({seed for cell in row.cells.values() for seed in cell.values}):
            cells = [row.cells.get(column, Cell({})).values.get(seed) for column in table.columns]
            words = [ABSENT if value is None else f"{value:.2f}" for value in cells]
            lines.append([row.method, row.config, str(seed), *words])
    return lines


def cell_text(cell: Cell | None) -> str:
    """Return "72.00 ± 2.00", "72.00" for a single seed, or "n/a"."""
    if cell is None or cell.mean is None:
        return ABSENT
    return f"{cell.mean:.2f}" if cell.std is None else f"{cell.mean:.2f} ± {cell.std:.2f}"


def paired_text(pairs: Paired) -> str:
    """Return "+1.20 (0.40 to 2.00; 3 of 3 higher, p 0.25)", or "n/a" without a pair."""
    if pairs.mean is None:
        return ABSENT
    low_high = "" if pairs.interval is None else "{:.2f} to {:.2f}; ".format(*pairs.interval)
    ties = f", {pairs.equal} equal" if pairs.equal else ""
    count = f"{pairs.higher} of {len(pairs.differences)} higher{ties}"
    return f"{pairs.mean:+.2f} ({low_high}{count}, p {pairs.p_value:.2g})"


def json_paired(pairs: Paired) -> dict[str, Any]:
    """Return paired differences in full precision, for JSON."""
    return {
        "differences": {str(key): value for key, value in pairs.differences.items()},
        "mean": pairs.mean,
        "interval": pairs.interval,
        "higher": pairs.higher,
        "equal": pairs.equal,
        "p_value": pairs.p_value,
    }


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Return an aligned Markdown table of ``lines``; the first line is the header."""
    widths = [max(map(len, words)) for words in zip(*lines, strict=True)]
    padded = [[word.ljust(n) for word, n in zip(line, widths, strict=True)] for line in lines]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def json_cell(cell: Cell) -> dict[str, Any]:
    """Return a cell in full precision, for JSON."""
    return {
        "mean": cell.mean,
        "std": cell.std,
        "seeds": {str(seed): value for seed, value in cell.values.items()},
        "missing": list(cell.missing),
        "conflicting": list(cell.conflicting),
    }


def _folders(found: Found, reason: str) -> list[str]:
    return [str(folder) for folder, what in found.without_result.items() if what == reason]


def _best(table: Table, column: str) -> str:
    """Return the highest average of a column as it is printed; "" for fewer than two averages."""
    means = [row.cells[column].mean for row in table.rows if column in row.cells]
    known = [mean for mean in means if mean is not None]
    return f"{max(known):.2f}" if len(known) > 1 else ""


def _bold(word: str) -> str:
    mean, *spread = word.split(" ", 1)
    return " ".join([f"\\textbf{{{mean}}}", *map(_escape, spread)])


def _caption(table: Table) -> str:
    """Return what the numbers are, their unit, the number of seeds and what bold means."""
    trained = [row for row in table.rows if row.selection != NOT_TRAINED and not row.source]
    cells = [cell for row in trained for cell in row.cells.values() if cell.mean is not None]
    counts = sorted({len(cell.values) for cell in cells})
    parts = [f"{heading(table)}. Accuracy in percent"]
    if counts == [1]:
        parts.append("1 seed")
    elif counts:
        seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        parts.append(f"average ± sample standard deviation over {seeds} seeds")
    if any(_best(table, column) for column in table.columns):
        parts.append("the best of each column is bold")
    return f"{', '.join(parts)}."


def _label(table: Table, used: Sequence[str]) -> str:
    """Return a label that is not among the used ones."""
    words = re.findall("[a-z0-9]+", f"{table.title} {table.about.get('dataset', '')}".lower())
    label = f"tab:{'-'.join(words)}"
    numbered = (f"{label}-{number}" for number in count(2))
    return next(name for name in chain([label], numbered) if name not in used)


LATEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "_%&#${}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "±": r"$\pm$",
    }
)


def _escape(text: str) -> str:
    """Return a text with LaTeX's special characters escaped, on one line."""
    return " ".join(text.split()).translate(LATEX)
