"""Runs as rows: who shares a row, which seeds are missing, what is strange."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.lib.cells import Cell
from scripts.lib.runs import Run

Key = Callable[[Run], Hashable]


@dataclass(frozen=True)
class Row:
    """One method in one setting, with a Cell for each column that it has."""

    method: str
    config: str
    selection: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Options:
    """How rows are made.

    Attributes:
        seeds: the seeds that each row should have; empty: all that occur among its neighbours.
        name: a method's name, where the caller knows a better one than trainer and options.
    """

    seeds: Sequence[int] = ()
    name: Callable[[Run], str | None] = lambda run: None


def make_rows(
    runs: Sequence[Run], column: Callable[[Run], str], options: Options, key: Key | None = None
) -> tuple[list[Row], list[str]]:
    """Rows of one table, and notes about seeds that are missing, doubled, left out or collapsed.

    Args:
        column: the column that a run belongs to.
        key: runs with the same key share a row; by default those with the same `setting`. Where a
            coarser key would put two settings into one cell, their rows are kept apart.
    """
    groups = [part for group in group_by(runs, key or setting) for part in _split(group, column)]
    trained = [run for run in runs if not run.is_zero_shot]
    columns = list(dict.fromkeys(column(run) for run in trained))
    expected = sorted(options.seeds or {run.seed for run in trained})
    names = _names(groups, options)
    rows, notes = [], []
    for group, name in zip(groups, names, strict=True):
        row = _row(group, name, column, columns, expected)
        rows.append(row)
        notes += _notes(row, group, expected)
    return rows, notes


def setting(run: Run) -> Hashable:
    """What must agree for runs to be averaged over their seeds."""
    epoch = run.epoch if run.selection == "last_step" else None  # the best epoch is the seed's own
    return (run.trainer, run.config, run.selection, epoch, _frozen(run.settings))


def trainer_setting(run: Run) -> Hashable:
    """As `setting`, but the config may differ, as between 1 and 16 shots in CoOp's protocol."""
    options = {key: value for key, value in run.settings.items() if key.startswith("TRAINER.")}
    return (run.trainer, run.selection, _frozen(options))


def group_by(runs: Iterable[Run], key: Key) -> list[list[Run]]:
    """Runs with equal keys together, in the order of their first appearance."""
    groups: dict[Hashable, list[Run]] = defaultdict(list)
    for run in runs:
        groups[key(run)].append(run)
    return list(groups.values())


def _frozen(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


def _split(group: list[Run], column: Callable[[Run], str]) -> list[list[Run]]:
    """``group`` itself, or its settings apart if two of them meet in one column."""
    settings = group_by(group, setting)
    pairs = {(column(run), setting(run)) for run in group}
    return [group] if len(pairs) == len({name for name, _ in pairs}) else settings


def _row(
    group: Sequence[Run],
    name: str,
    column: Callable[[Run], str],
    columns: Sequence[str],
    expected: Sequence[int],
) -> Row:
    by_column = {column(run): [r for r in group if column(r) == column(run)] for run in group}
    if group[0].is_zero_shot:  # no training, so no seed is missing and no column is due
        cells = {title: _cell(members, ()) for title, members in by_column.items()}
    else:
        cells = {title: _cell(by_column.get(title, []), expected) for title in columns}
    return Row(name, _config(by_column), _selection(group), cells)


def _cell(runs: Sequence[Run], expected: Sequence[int]) -> Cell:
    results: dict[int, set[tuple[int, int]]] = defaultdict(set)
    values = {}
    for run in runs:
        results[run.seed].add((run.correct, run.total))
        values[run.seed] = run.accuracy
    doubled = {seed for seed, scores in results.items() if len(scores) > 1}
    wanted = set(expected) or set(values)
    return Cell(
        {seed: values[seed] for seed in sorted(wanted & set(values) - doubled)},
        missing=tuple(sorted(wanted - set(values))),
        conflicting=tuple(sorted(doubled)),
    )


def _config(by_column: Mapping[str, Sequence[Run]]) -> str:
    """The row's config; where several columns have their own, each with its columns."""
    columns: dict[str, list[str]] = defaultdict(list)
    for column, runs in by_column.items():
        columns[runs[0].config].append(column)
    if len(columns) == 1:
        return next(iter(columns))
    return ", ".join(f"{config} ({', '.join(where)})" for config, where in columns.items())


def _selection(group: Sequence[Run]) -> str:
    rule = group[0].selection
    if group[0].is_zero_shot:
        return "not trained"
    epochs = {run.epoch for run in group}
    return f"{rule}, epoch {group[0].epoch}" if rule == "last_step" and len(epochs) == 1 else rule


def _names(groups: Sequence[Sequence[Run]], options: Options) -> list[str]:
    """The method, with those options on which rows of the same method differ."""
    names = [options.name(group[0]) or group[0].trainer for group in groups]
    common = [_common_options(group) for group in groups]
    full_names = []
    for name, own in zip(names, common, strict=True):
        twins = [other for other, twin in zip(common, names, strict=True) if twin == name]
        differing = [
            f"{key.removeprefix('TRAINER.')} {own.get(key)}"
            for key in sorted(set().union(*twins))
            if len({json.dumps(twin.get(key)) for twin in twins}) > 1
        ]
        full_names.append(f"{name} ({', '.join(differing)})" if differing else name)
    return full_names


def _common_options(group: Sequence[Run]) -> dict[str, Any]:
    first = group[0].settings
    return {
        key: value
        for key, value in first.items()
        if all(run.settings.get(key) == value for run in group)
    }


def _notes(row: Row, group: Sequence[Run], expected: Sequence[int]) -> list[str]:
    who = f"{row.method} ({row.config})"
    notes = []
    for column, cell in row.cells.items():
        if cell.missing:
            notes.append(f"{who}: {column} lacks {_seeds(cell.missing)}, so it has no average")
        for seed in cell.conflicting:
            folders = " and ".join(str(run.folder) for run in group if run.seed == seed)
            notes.append(f"{who}: {column} has two results for seed {seed}, among {folders}")
        for seed in cell.collapsed():
            notes.append(
                f"{who}: {column}, seed {seed} looks collapsed: {cell.values[seed]:.2f} beside "
                f"{', '.join(f'{v:.2f}' for s, v in cell.values.items() if s != seed)}"
            )
    extra = sorted({run.seed for run in group} - set(expected))
    if extra and not group[0].is_zero_shot:
        notes.append(f"{who}: {_seeds(extra)} left out, not among those asked for")
    return notes


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
