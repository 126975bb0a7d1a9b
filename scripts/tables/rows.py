"""Group runs into table rows and average them; report missing, conflicting and collapsed seeds."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scripts.tables.grouping import Key, group_by, protocol_setting, setting, varied
from scripts.tables.load import Run
from scripts.tables.published import AVERAGE, Published
from scripts.tables.statistics import Cell, average

Name = Callable[[Run], str]
NOT_RUN_HERE = " (published, not run here)"
NOT_TRAINED = "not trained"  # the selection of the zero-shot model
MAX_NAMES = 3  # longer lists of columns are counted, not named


@dataclass(frozen=True)
class Row:
    """One method in one setting, with a `Cell` for each of its columns.

    ``source`` is the reference of a published row; it is empty for runs of this project.
    """

    method: str
    config: str
    selection: str
    cells: Mapping[str, Cell]
    source: str = ""


@dataclass(frozen=True)
class Options:
    """How rows are made."""

    seeds: Sequence[int] = ()  # that each row should have; if empty, all seeds in its table
    name: Callable[[Run], str | None] = lambda run: None  # of a method; None: the trainer's name
    published: Sequence[Published] = ()  # rows of papers, added where the setting is the same


def make_rows(
    runs: Sequence[Run], column: Name, options: Options, key: Key = setting
) -> tuple[list[Row], list[str]]:
    """Return the rows of one table, and notes on missing, doubled, ignored and collapsed seeds.

    The arguments are those of `_grouped_rows`.
    """
    expected = _expected_seeds(runs, options)
    rows, notes = [], []
    for row, group in _grouped_rows(runs, column, options, key):
        rows.append(row)
        notes += [*_seed_notes(row, group, expected), *_varied_notes(row, group, column)]
        notes += commit_notes(_who(row), group)
    return rows, notes


def average_rows(
    runs: Sequence[Run],
    datasets: Sequence[str],
    columns: Sequence[str],
    column: Name,
    options: Options,
) -> tuple[list[Row], list[str]]:
    """Return rows of averages over ``datasets``, and notes on missing datasets.

    As in the papers, an average is the mean of the datasets' averages. It is given only if every
    dataset has one.

    Args:
        columns: the columns of the averages.
        column: returns the column of a run.
    """
    rows, notes = [], []
    for row, group in _grouped_rows(
        [run for run in runs if run.dataset in datasets],
        lambda run: f"{run.dataset} / {column(run)}",
        options,
        protocol_setting,
        place=lambda run: run.dataset,
    ):
        available = {run.dataset for run in group}
        if len(available) == 1:
            notes.append(f"{_who(row)}: no average (only {available.pop()})")
            continue
        cells = {}
        for title in columns:
            own = {name: row.cells.get(f"{name} / {title}", Cell({})) for name in datasets}
            if any(cell.values for cell in own.values()):
                cells[title] = average(list(own.values()))
                notes += _missing_notes(row, f"no average of {title}", own)
        rows.append(replace(row, cells=cells))
        notes += _varied_notes(row, group, lambda run: run.dataset)
        notes += commit_notes(_who(row), group)
    return rows, notes


def with_average(rows: Sequence[Row], names: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Return the rows with a column "average" over the columns ``names``, and notes."""
    full, notes = [], []
    for row in rows:
        own = {name: row.cells.get(name, Cell({})) for name in names}
        full.append(replace(row, cells={**row.cells, AVERAGE: average(list(own.values()))}))
        notes += _missing_notes(row, "no average", own)
    return full, notes


def _grouped_rows(
    runs: Sequence[Run], column: Name, options: Options, key: Key, place: Name | None = None
) -> list[tuple[Row, list[Run]]]:
    """Return the rows of one table, each with its runs.

    Args:
        column: returns the column of a run.
        key: runs with the same key share a row, unless it would put two settings into one cell.
        place: the names given beside each config if a row has several; by default the columns.
    """
    groups = []
    for group in group_by(runs, key):
        settings = {(column(run), setting(run)) for run in group}
        has_conflict = len(settings) > len({column(run) for run in group})
        groups += group_by(group, setting) if has_conflict else [group]
    expected = _expected_seeds(runs, options)
    all_columns = dict.fromkeys(column(run) for run in runs if not run.is_zero_shot)
    rows = []
    for group, name in zip(groups, _names(groups, options), strict=True):
        first = group[0]
        by_column = {column(part[0]): part for part in group_by(group, column)}
        # A model without training has neither seeds nor columns to miss.
        columns, seeds = (by_column, []) if first.is_zero_shot else (all_columns, expected)
        cells = {title: _cell(by_column.get(title, []), seeds) for title in columns}
        config = _values_by_place((run.config, (place or column)(run)) for run in group)
        rows.append((Row(name, config, selection_of(group), cells), group))
    return rows


def _cell(runs: Sequence[Run], expected: Sequence[int]) -> Cell:
    scores: dict[int, set[tuple[int, int]]] = defaultdict(set)
    for run in runs:
        scores[run.seed].add((run.correct, run.total))
    values = {run.seed: run.accuracy for run in runs}
    conflicting = {seed for seed, found in scores.items() if len(found) > 1}
    seeds = set(expected) or set(values)
    return Cell(
        {seed: values[seed] for seed in sorted(seeds & set(values) - conflicting)},
        missing=tuple(sorted(seeds - set(values))),
        conflicting=tuple(sorted(conflicting)),
    )


def selection_of(group: Sequence[Run]) -> str:
    """Return how the checkpoints of a row were chosen, such as "last_step, epoch 10"."""
    first = group[0]
    if first.is_zero_shot:
        return NOT_TRAINED
    if first.selection == "last_step" and len({run.epoch for run in group}) == 1:
        return f"last_step, epoch {first.epoch}"
    return first.selection


def _names(groups: Sequence[Sequence[Run]], options: Options) -> list[str]:
    """Return each row's method, with the settings that differ between rows of the same method."""
    names = [options.name(group[0]) or group[0].trainer for group in groups]
    shared = [_shared_settings(group) for group in groups]
    full_names = []
    for name, own in zip(names, shared, strict=True):
        twins = [other for other, twin in zip(shared, names, strict=True) if twin == name]
        differing = [
            f"{key.removeprefix('TRAINER.')} {own.get(key)}"
            for key in sorted(set().union(*twins))
            if len({json.dumps(twin.get(key)) for twin in twins}) > 1
        ]
        full_names.append(f"{name} ({', '.join(differing)})" if differing else name)
    return full_names


def _shared_settings(group: Sequence[Run]) -> dict[str, Any]:
    return {
        key: value
        for key, value in group[0].settings.items()
        if all(run.settings.get(key) == value for run in group)
    }


def _seed_notes(row: Row, group: Sequence[Run], expected: Sequence[int]) -> list[str]:
    notes = []
    for column, cell in row.cells.items():
        if cell.missing:
            notes.append(f"{_who(row)}: no average of {column} (missing: {_seeds(cell.missing)})")
        for seed in cell.conflicting:
            folders = " and ".join(str(run.folder) for run in group if run.seed == seed)
            notes.append(f"{_who(row)}: {column} has two results for seed {seed}, among {folders}")
        for seed in cell.collapsed():
            notes.append(
                f"{_who(row)}: {column}, seed {seed} looks collapsed: {cell.values[seed]:.2f} "
                f"beside {', '.join(f'{v:.2f}' for s, v in cell.values.items() if s != seed)}"
            )
    extra = sorted({run.seed for run in group} - set(expected))
    if extra and not group[0].is_zero_shot:
        notes.append(f"{_who(row)}: {_seeds(extra)} ignored, not among the expected seeds")
    return notes


def _varied_notes(row: Row, group: Sequence[Run], place: Name) -> list[str]:
    """Return notes on the settings that the protocol varies along a row."""
    notes = []
    for key in varied(group[0].trainer):
        pairs = [(str(run.settings.get(key, "not set")), place(run)) for run in group]
        if len({value for value, _ in pairs}) > 1:
            notes.append(f"{row.method}: the protocol varies {key}: {_values_by_place(pairs)}")
    return notes


def commit_notes(who: str, runs: Sequence[Run]) -> list[str]:
    """Return a note if ``runs`` come from several commits, as far as these were recorded."""
    places: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        if run.commit:
            places[run.commit].append(f"{run.dataset} {run.classes} seed {run.seed}")
    if len(places) < 2:
        return []
    parts = []
    for commit, where in places.items():
        what = ", ".join(where) if len(where) <= MAX_NAMES else f"{len(where)} runs"
        parts.append(f"{short_commit(commit)} ({what})")
    return [f"{who}: runs of several versions of the code, by commit: {', '.join(parts)}"]


def short_commit(commit: str) -> str:
    """Return a commit's first digits, with "-dirty" if files were changed."""
    name, dash, dirty = commit.partition("-")
    return f"{name[:9]}{dash}{dirty}"


def _missing_notes(row: Row, what: str, cells: Mapping[str, Cell]) -> list[str]:
    """Return a note on the datasets without an average, if there are any."""
    names = [name for name, cell in cells.items() if cell.mean is None]
    missing = ", ".join(names) if len(names) < len(cells) else "all datasets"
    return [f"{_who(row)}: {what} (missing: {missing})"] if names else []


def _values_by_place(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the one value of (value, place) pairs, or "A (x, y), B (z)" for several values."""
    places: dict[str, dict[str, None]] = defaultdict(dict)
    for value, place in pairs:
        places[value][place] = None
    if len(places) == 1:
        return next(iter(places))
    return ", ".join(
        f"{value} ({', '.join(names) if len(names) <= MAX_NAMES else f'{len(names)} others'})"
        for value, names in places.items()
    )


def _expected_seeds(runs: Sequence[Run], options: Options) -> list[int]:
    return sorted(options.seeds or {run.seed for run in runs if not run.is_zero_shot})


def _who(row: Row) -> str:
    return f"{row.method} ({row.config})"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
