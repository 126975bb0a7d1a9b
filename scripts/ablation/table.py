"""The tables of an ablation: its rows, their differences from the full method, and its answers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.ablation.learners import Learner
from scripts.ablation.rows import FULL, QUESTIONS, ROWS, Variant
from scripts.tables.identity import told_apart
from scripts.tables.load import Run
from scripts.tables.render import (
    LEGEND,
    PAIRS_LEGEND,
    cell_text,
    json_cell,
    json_paired,
    markdown_table,
    paired_text,
)
from scripts.tables.rows import commit_notes, selection_of
from scripts.tables.statistics import Cell, Paired, harmonic, paired

COLUMNS = ("base", "new", "H")


@dataclass(frozen=True)
class Row:
    """A variant, its runs, and their accuracies on base and new classes."""

    variant: Variant
    base: Cell
    new: Cell
    runs: Sequence[Run] = ()

    @property
    def cells(self) -> dict[str, Cell]:
        """The three numbers by column."""
        return {"base": self.base, "new": self.new, "H": harmonic(self.base, self.new)}

    @property
    def is_complete(self) -> bool:
        """Whether no seed is missing."""
        return self.base.is_complete and self.new.is_complete

    def minus(self, other: "Row") -> dict[str, Paired]:
        """Return the differences by column, seed by seed; without pairs if a seed is missing."""
        complete = self.is_complete and other.is_complete
        return {
            name: paired(cell.values, other.cells[name].values) if complete else Paired({})
            for name, cell in self.cells.items()
        }


@dataclass(frozen=True)
class Ablation:
    """The rows on one learner, by name, and remarks on rows that are left out."""

    learner: Learner
    rows: Mapping[str, Row]
    remarks: Sequence[str] = ()

    def label(self, name: str) -> str:
        """Return the label of a row."""
        return self.rows[name].variant.label.format(learner=self.learner.trainer)

    @property
    def about(self) -> dict[str, str]:
        """What all rows share: data, backbone, split, shots, training images."""
        runs = told_apart([run for row in self.rows.values() for run in row.runs])
        facts = {
            "dataset": {run.dataset for run in runs},
            "backbone": {run.backbone for run in runs},
            "split": {run.split for run in runs},
            "shots": {str(run.shots) for run in runs},
            "images": {run.images for run in runs},
        }
        return {name: " and ".join(sorted(found)) for name, found in facts.items()}


def make_row(name: str, runs: Sequence[Run], seeds: Sequence[int]) -> Row:
    """Return the row ``name`` of its tests."""
    found: dict[str, dict[int, float]] = {"base": {}, "new": {}}
    for run in runs:
        found[run.classes][run.seed] = run.accuracy
    cells = {
        classes: Cell(
            {seed: values[seed] for seed in seeds if seed in values},
            missing=tuple(seed for seed in seeds if seed not in values),
        )
        for classes, values in found.items()
    }
    return Row(ROWS[name], cells["base"], cells["new"], runs)


def render(ablations: Sequence[Ablation], seeds: Sequence[int]) -> str:
    """Return the tables of all learners as Markdown."""
    parts = [part for ablation in ablations for part in _section(ablation, seeds)]
    return "\n\n".join([*parts, LEGEND, PAIRS_LEGEND]) + "\n"


def _section(ablation: Ablation, seeds: Sequence[int]) -> list[str]:
    """Return heading, table, answers, values by seed and notes of one learner."""
    rows, about = ablation.rows, {**ablation.about, "seeds": ", ".join(map(str, seeds))}
    facts = ", ".join(f"{key} {value}" for key, value in about.items() if value)
    parts = [
        f"### TextRefiner on {ablation.learner.trainer}, base to new classes ({facts})",
        markdown_table(_summary(ablation)),
    ]
    answers = [
        f"- {what}: "
        + ", ".join(
            f"{name} {paired_text(pairs)}" for name, pairs in rows[a].minus(rows[b]).items()
        )
        for what, a, b in QUESTIONS
        if a in rows and b in rows
    ]
    if answers:
        parts += ["What each part adds (the row with it minus the row without it):"]
        parts += ["\n".join(answers)]
    parts += ["By seed", markdown_table(_by_seed(ablation))]
    notes = [f"- **Note** {note}" for note in [*ablation.remarks, *_notes(ablation)]]
    return [*parts, "\n".join(notes)] if notes else parts


def _summary(ablation: Ablation) -> list[list[str]]:
    rows = ablation.rows
    lines = [["Variant", *COLUMNS, "H - full (95 % interval; seeds, sign test)", "Selection"]]
    for name, row in rows.items():
        against = (
            "" if name == FULL or FULL not in rows else paired_text(row.minus(rows[FULL])["H"])
        )
        selection = selection_of(row.runs) if row.runs else ""
        numbers = [cell_text(cell) for cell in row.cells.values()]
        lines.append([ablation.label(name), *numbers, against, selection])
    return lines


def _by_seed(ablation: Ablation) -> list[list[str]]:
    lines = [["Variant", "Seed", *COLUMNS]]
    for name, row in ablation.rows.items():
        for seed in row.cells["H"].values:
            numbers = [f"{cell.values[seed]:.2f}" for cell in row.cells.values()]
            lines.append([ablation.label(name), str(seed), *numbers])
    return lines


def _notes(ablation: Ablation) -> list[str]:
    """Return notes on missing and collapsed seeds and on several versions of the code."""
    rows = ablation.rows
    notes = []
    missing = [name for name, row in rows.items() if not row.is_complete]
    if missing:
        notes.append(f"without all seeds, so without averages: {', '.join(missing)}")
    for name, row in rows.items():
        for column, cell in row.cells.items():
            notes += [
                f"{name}: {column}, seed {seed} looks collapsed: {cell.values[seed]:.2f}"
                for seed in cell.collapsed()
            ]
    return notes + commit_notes("the rows", [run for row in rows.values() for run in row.runs])


def as_json(ablations: Sequence[Ablation], dataset: str, seeds: Sequence[int]) -> str:
    """Return every number with full precision."""
    content: dict[str, Any] = {"dataset": dataset, "seeds": list(seeds), "methods": {}}
    for ablation in ablations:
        rows = ablation.rows
        content["methods"][ablation.learner.trainer] = {
            "about": ablation.about,
            "notes": [*ablation.remarks, *_notes(ablation)],
            "rows": {name: _json_row(ablation, name) for name in rows},
            "questions": [
                {
                    "what": what,
                    "with": a,
                    "without": b,
                    "differences": _json_pairs(rows[a].minus(rows[b])),
                }
                for what, a, b in QUESTIONS
                if a in rows and b in rows
            ],
        }
    return json.dumps(content, indent=2) + "\n"


def _json_row(ablation: Ablation, name: str) -> dict[str, Any]:
    row, rows = ablation.rows[name], ablation.rows
    content: dict[str, Any] = {
        "label": ablation.label(name),
        "options": row.variant.options(ablation.learner.config_node),
        "selection": selection_of(row.runs) if row.runs else None,
        "cells": {key: json_cell(cell) for key, cell in row.cells.items()},
    }
    if FULL in rows and name != FULL:
        content["minus_full"] = _json_pairs(row.minus(rows[FULL]))
    return content


def _json_pairs(pairs: Mapping[str, Paired]) -> dict[str, Any]:
    return {name: json_paired(value) for name, value in pairs.items()}
