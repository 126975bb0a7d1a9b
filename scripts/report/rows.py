"""Runs as rows: who shares a row, which seeds are missing, what is strange."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.report.load import Run
from scripts.report.published import Published
from scripts.report.statistics import Cell

Key = Callable[[Run], Hashable]
# What the exceptions of configs/protocols.yaml vary by dataset and shots.
VARIED = (
    "OPTIM.MAX_EPOCH",
    "TRAINER.PROMPTKD.KD_WEIGHT",
    "TRAINER.PROMPTKD.TEACHER_WEIGHTS",
    "TRAINER.PROMPTSRC.GPA_MEAN",
    "TRAINER.PROMPTSRC.GPA_STD",
)
MANY = 3  # that many columns are named, more are counted


@dataclass(frozen=True)
class Row:
    """One method in one setting, with a Cell for each column that it has.

    ``source`` is where a published row was read; it is empty for what was run here.
    """

    method: str
    config: str
    selection: str
    cells: Mapping[str, Cell]
    source: str = ""


@dataclass(frozen=True)
class Options:
    """How rows are made.

    Attributes:
        seeds: the seeds that each row should have; empty: all that occur among its neighbors.
        name: a method's name, where the caller knows a better one than trainer and options.
        published: rows of papers that may stand beside these.
    """

    seeds: Sequence[int] = ()
    name: Callable[[Run], str | None] = lambda run: None
    published: Sequence[Published] = ()


def setting(run: Run) -> Hashable:
    """What must agree for runs to be averaged over their seeds."""
    epoch = run.epoch if run.selection == "last_step" else None  # the best epoch is the seed's own
    return (run.trainer, run.config, run.selection, epoch, _frozen(run.settings))


def protocol_setting(run: Run) -> Hashable:
    """What must agree for runs to share a row over several datasets or numbers of shots.

    As `setting`, less what configs/protocols.yaml itself varies between them (`VARIED`).
    """
    settings = {key: value for key, value in run.settings.items() if key not in VARIED}
    return (run.trainer, run.selection, _frozen(settings))


def make_rows(
    runs: Sequence[Run],
    column: Callable[[Run], str],
    options: Options,
    keys: Sequence[Key] = (setting,),
) -> tuple[list[Row], list[str]]:
    """Rows of one table, and notes about seeds that are missing, doubled, left out or collapsed.

    The arguments are those of `grouped_rows`.
    """
    expected = due_seeds(runs, options)
    rows, notes = [], []
    for row, group in grouped_rows(runs, column, options, keys):
        rows.append(row)
        notes += [*_notes(row, group, expected), *varied(row, group, column)]
    return rows, notes


def grouped_rows(
    runs: Sequence[Run],
    column: Callable[[Run], str],
    options: Options,
    keys: Sequence[Key] = (setting,),
    where: Callable[[Run], str] | None = None,
) -> list[tuple[Row, list[Run]]]:
    """The rows of one table, each with its runs.

    Args:
        column: the column that a run belongs to.
        keys: runs with the same key share a row. Where the first would put two settings into one
            cell, the next one decides; the last is `setting`, which cannot.
        where: what a config is said to belong to where a row has several; its columns if None.
    """
    groups = _groups(runs, column, keys)
    columns = list(dict.fromkeys(column(run) for run in runs if not run.is_zero_shot))
    expected = due_seeds(runs, options)
    names = _names(groups, options)
    return [
        (_row(group, name, column, columns, expected, where or column), group)
        for group, name in zip(groups, names, strict=True)
    ]


def due_seeds(runs: Sequence[Run], options: Options) -> list[int]:
    """The seeds that each trained row should have."""
    return sorted(options.seeds or {run.seed for run in runs if not run.is_zero_shot})


def group_by(runs: Iterable[Run], key: Key) -> list[list[Run]]:
    """Runs with equal keys together, in the order of their first appearance."""
    groups: dict[Hashable, list[Run]] = defaultdict(list)
    for run in runs:
        groups[key(run)].append(run)
    return list(groups.values())


def _frozen(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


def _groups(
    runs: Iterable[Run], column: Callable[[Run], str], keys: Sequence[Key]
) -> list[list[Run]]:
    key, *finer = keys
    groups = []
    for group in group_by(runs, key):
        settings = {(column(run), setting(run)) for run in group}
        clash = len(settings) > len({name for name, _ in settings})
        groups += _groups(group, column, finer) if clash and finer else [group]
    return groups


def _row(
    group: Sequence[Run],
    name: str,
    column: Callable[[Run], str],
    columns: Sequence[str],
    expected: Sequence[int],
    where: Callable[[Run], str],
) -> Row:
    by_column = {column(run): [r for r in group if column(r) == column(run)] for run in group}
    if group[0].is_zero_shot:  # no training, so no seed is missing and no column is due
        cells = {title: _cell(members, ()) for title, members in by_column.items()}
    else:
        cells = {title: _cell(by_column.get(title, []), expected) for title in columns}
    return Row(name, _config(group, where), _selection(group), cells)


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


def _config(group: Sequence[Run], where: Callable[[Run], str]) -> str:
    """The row's config; where there are several, each with its columns."""
    places: dict[str, dict[str, None]] = defaultdict(dict)
    for run in group:
        places[run.config][where(run)] = None
    if len(places) == 1:
        return group[0].config
    return ", ".join(f"{config} ({listed(list(names))})" for config, names in places.items())


def varied(row: Row, group: Sequence[Run], where: Callable[[Run], str]) -> list[str]:
    """Notes on the settings that differ along a row because the protocol varies them."""
    notes = []
    for key in VARIED:
        places: dict[str, dict[str, None]] = defaultdict(dict)
        for run in group:
            places[str(run.settings.get(key, "not set"))][where(run)] = None
        if len(places) > 1:
            values = ", ".join(f"{value} ({listed(list(n))})" for value, n in places.items())
            notes.append(f"{row.method}: the protocol varies {key}: {values}")
    return notes


def listed(names: Sequence[str]) -> str:
    """The names, or how many they are."""
    return ", ".join(names) if len(names) <= MANY else f"{len(names)} others"


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
