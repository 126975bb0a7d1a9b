"""Tables as Markdown, CSV, LaTeX and JSON, and their place beside a sweep's jobs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scripts.report.statistics import Cell
from scripts.report.table import Table
from scripts.runner.files import write_text

LEGEND = (
    "Accuracy in percent: average ± sample standard deviation (n - 1) over the seeds. H is the "
    "harmonic mean of the two averages; its ± is that of the seeds' own harmonic means. An average "
    "over datasets is the mean of theirs; it stands where none is missing."
)
ABSENT = "n/a"
RUN_HERE = "run here"


def markdown(
    tables: Sequence[Table], unfinished: Sequence[Path], untested: Sequence[Path] = ()
) -> str:
    """Each table, then the same by seed, then its notes."""
    parts = []
    for table in tables:
        parts += [f"### {heading(table)}", markdown_table(_summary(table))]
        if any(cell.values for row in table.rows for cell in row.cells.values()):
            parts += ["By seed", markdown_table(_by_seed(table))]
        lines = [f"- **Published** {line}" for line in sources(table)]
        lines += [f"- **Note** {note}" for note in table.notes]
        if lines:
            parts.append("\n".join(lines))
    if unfinished:
        parts.append("\n".join(f"- **Unfinished** {folder}" for folder in unfinished))
    if untested:
        parts.append("\n".join(f"- **Finished without a test** {folder}" for folder in untested))
    return "\n\n".join([*parts, LEGEND]) + "\n"


def latex(
    tables: Sequence[Table], unfinished: Sequence[Path], untested: Sequence[Path] = ()
) -> str:
    """A tabular for each table (package booktabs); notes are comments."""
    parts = [f"% {LEGEND}"]
    for table in tables:
        header, *lines = [[_escape(word) for word in line] for line in _summary(table)]
        body = [f"{' & '.join(line)} \\\\" for line in lines]
        parts += [
            *(f"% published: {line}" for line in sources(table)),
            *(f"% {note}" for note in table.notes),
            f"% {heading(table)}",
            f"\\begin{{tabular}}{{lll{'r' * len(table.columns)}}}",
            *("\\toprule", f"{' & '.join(header)} \\\\", "\\midrule", *body, "\\bottomrule"),
            "\\end{tabular}",
        ]
    parts += [f"% unfinished: {folder}" for folder in unfinished]
    parts += [f"% finished without a test: {folder}" for folder in untested]
    return "\n".join(parts) + "\n"


def as_csv(
    tables: Sequence[Table], unfinished: Sequence[Path], untested: Sequence[Path] = ()
) -> str:
    """A line for each cell; it has no place for notes and runs without a result."""
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


def as_json(
    tables: Sequence[Table], unfinished: Sequence[Path], untested: Sequence[Path] = ()
) -> str:
    """Everything, with full precision; what is not known is null."""
    content = {
        "legend": LEGEND,
        "tables": [
            {
                "title": table.title,
                "about": dict(table.about),
                "columns": list(table.columns),
                "rows": [
                    {
                        "method": row.method,
                        "config": row.config,
                        "selection": row.selection,
                        "published": bool(row.source),
                        "source": row.source or RUN_HERE,
                        "cells": {name: json_cell(cell) for name, cell in row.cells.items()},
                    }
                    for row in table.rows
                ],
                "notes": list(table.notes),
            }
            for table in tables
        ],
        "unfinished": [str(folder) for folder in unfinished],
        "untested": [str(folder) for folder in untested],
    }
    return json.dumps(content, indent=2) + "\n"


FORMATS: dict[str, Callable[[Sequence[Table], Sequence[Path], Sequence[Path]], str]] = {
    "markdown": markdown,
    "csv": as_csv,
    "latex": latex,
    "json": as_json,
}


def save(tables: Sequence[Table], folder: Path, remarks: Sequence[str] = ()) -> str:
    """Write results.md, with ``remarks`` behind the tables, and results.json; returns the first."""
    text = "\n".join([markdown(tables, []), *filter(None, remarks)])
    write_text(folder / "results.md", text)
    write_text(folder / "results.json", as_json(tables, []))
    return text


def heading(table: Table) -> str:
    """What a table shows: "Base to new classes (dataset Critters, 16 shots, ...)"."""
    return f"{table.title} ({', '.join(f'{key} {value}' for key, value in table.about.items())})"


def sources(table: Table) -> list[str]:
    """Where the published rows of a table were read, one line a source."""
    rows: dict[str, list[str]] = {}
    for row in table.rows:
        if row.source:
            rows.setdefault(row.source, []).append(row.method.partition(" (published")[0])
    return [f"{', '.join(methods)}: {source}" for source, methods in rows.items()]


def _summary(table: Table) -> list[list[str]]:
    lines = [["Method", "Config", "Selection", *table.columns]]
    for row in table.rows:
        cells = [cell_text(row.cells.get(column)) for column in table.columns]
        lines.append([row.method, row.config, row.selection, *cells])
    return lines


def _by_seed(table: Table) -> list[list[str]]:
    lines = [["Method", "Config", "Seed", *table.columns]]
    for row in table.rows:
        for seed in sorted({seed for cell in row.cells.values() for seed in cell.values}):
            cells = [row.cells.get(column, Cell({})).values.get(seed) for column in table.columns]
            words = [ABSENT if value is None else f"{value:.2f}" for value in cells]
            lines.append([row.method, row.config, str(seed), *words])
    return lines


def cell_text(cell: Cell | None) -> str:
    """ "72.00 ± 2.00", without the deviation of a single seed, or "n/a"."""
    if cell is None or cell.mean is None:
        return ABSENT
    return f"{cell.mean:.2f}" if cell.std is None else f"{cell.mean:.2f} ± {cell.std:.2f}"


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """The lines, of which the first is the header, as an aligned Markdown table."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    padded = [
        [word.ljust(width) for word, width in zip(line, widths, strict=True)] for line in lines
    ]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _escape(text: str) -> str:
    for plain, tex in (("_", r"\_"), ("%", r"\%"), ("&", r"\&"), ("±", r"$\pm$")):
        text = text.replace(plain, tex)
    return text


def json_cell(cell: Cell) -> dict[str, Any]:
    """A cell with full precision."""
    return {
        "mean": cell.mean,
        "std": cell.std,
        "seeds": {str(seed): value for seed, value in cell.values.items()},
        "missing": list(cell.missing),
        "conflicting": list(cell.conflicting),
    }
