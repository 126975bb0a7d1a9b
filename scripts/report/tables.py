"""Results as the papers' tables: base to new classes, by shots, cross-dataset, zero-shot.

Runs that differ in backbone, split, shots, source or training images (`scripts.report.images`) are
put in different tables; runs that differ in a trainer option, the config, the selection rule or its
epoch are put in different rows. Only what the protocols themselves vary between datasets and shots
(`scripts.report.rows.VARIED`) may differ along a row. The zero-shot model has neither shots nor a
source: it is a row of every table of its dataset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from scripts.report.averages import average_rows, with_average
from scripts.report.images import is_transductive
from scripts.report.load import Run
from scripts.report.published import AVERAGE, Published
from scripts.report.rows import Options, make_rows, protocol_setting, setting
from scripts.report.statistics import Cell, harmonic, published
from scripts.report.table import Table, about, published_rows, shots_of, split
from scripts.report.transfer import transfer

__all__ = ["BASE", "BASE2NEW", "BY_SHOTS", "NEW", "H", "Table", "build"]

BASE, NEW, H = "base", "new", "H"
BASE2NEW = "Base to new classes"
BY_SHOTS = "All classes, by shots"
ZERO_SHOT = "Zero-shot, all classes"
H_RULE = "the harmonic mean of the averaged base and the averaged new accuracy"


def build(runs: Sequence[Run], options: Options) -> list[Table]:
    """All tables of ``runs``."""
    whole = [run for run in runs if run.classes == "all"]
    parts = [run for run in runs if run.classes in (BASE, NEW)]
    plain = [run for run in whole if run.source is None and not is_transductive(run)]
    return [
        *_base2new(parts, options),
        *_base2new_average(parts, options),
        *_by_shots(plain, options),
        *_by_shots_average(plain, options),
        *transfer(whole, options),
        *_zero_shot(plain, options),
    ]


def _base2new(runs: Sequence[Run], options: Options) -> list[Table]:
    tables = []
    for members in split(runs, lambda run: run.dataset, lambda run: run.shots):
        rows, notes = make_rows(members, lambda run: run.classes, options)
        rows = [replace(row, cells=_with_harmonic(row.cells)) for row in rows]
        name = members[0].dataset
        rows += published_rows(options, "base2new", members, partial(_three, name))
        facts = about(members, "dataset", name, shots=shots_of(members))
        tables.append(Table(BASE2NEW, facts, (BASE, NEW, H), rows, notes))
    return tables


def _with_harmonic(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    base, new = (cells.get(column, Cell({})) for column in (BASE, NEW))
    return {BASE: base, NEW: new, H: harmonic(base, new)}


def _three(name: str, entry: Published) -> dict[str, Cell]:
    numbers = entry.results.get(name, ())
    return {key: published(x) for key, x in zip((BASE, NEW, H), numbers, strict=False)}


def _three_averaged(names: Sequence[str], entry: Published) -> dict[str, Cell]:
    return _three(AVERAGE, entry) if entry.averaged == set(names) else {}


def _base2new_average(runs: Sequence[Run], options: Options) -> list[Table]:
    """Averages over the datasets that any trained row of the table has."""
    tables = []
    for members in split(runs, lambda run: None, lambda run: run.shots):
        names = _data_sets(members)
        if len(names) < 2:
            continue
        rows, notes = average_rows(members, names, (BASE, NEW), lambda r: r.classes, options)
        rows = [replace(row, cells=_with_harmonic(row.cells)) for row in rows]
        rows += published_rows(options, "base2new", members, partial(_three_averaged, names))
        facts = about(members, "datasets", ", ".join(names), shots=shots_of(members))
        facts["H"] = H_RULE
        title = f"{BASE2NEW}, average over {len(names)} datasets"
        tables.append(Table(title, facts, (BASE, NEW, H), rows, notes))
    return tables


def _by_shots(runs: Sequence[Run], options: Options) -> list[Table]:
    alone = len(_data_sets([run for run in runs if run.is_zero_shot])) < 2
    tables = []
    for members in split(runs, lambda run: run.dataset, lambda run: None):
        if all(run.is_zero_shot for run in members) and not alone:
            continue  # one table of all datasets shows it
        rows, notes = make_rows(members, shots_column, options, (protocol_setting, setting))
        name = members[0].dataset
        rows += published_rows(options, "zero-shot", members, partial(_zero_column, name))
        facts = about(members, "dataset", name)
        tables.append(Table(BY_SHOTS, facts, _shots_columns(members), rows, notes))
    return tables


def _zero_column(name: str, entry: Published) -> dict[str, Cell]:
    return {"0 shots": published(entry.results[name][0])} if name in entry.results else {}


def _by_shots_average(runs: Sequence[Run], options: Options) -> list[Table]:
    tables = []
    for members in split(runs, lambda run: None, lambda run: None):
        names = _data_sets(members)
        if len(names) < 2 or all(run.is_zero_shot for run in members):
            continue
        columns = _shots_columns(members)
        rows, notes = average_rows(members, names, columns, shots_column, options)
        facts = about(members, "datasets", ", ".join(names))
        title = f"{BY_SHOTS}, average over {len(names)} datasets"
        tables.append(Table(title, facts, columns, rows, notes))
    return tables


def shots_column(run: Run) -> str:
    """The column of a run in a table by shots."""
    shots = 0 if run.is_zero_shot else run.shots
    return "all images" if shots < 1 and not run.is_zero_shot else _count(shots)


def _count(shots: int) -> str:
    return "1 shot" if shots == 1 else f"{shots} shots"


def _shots_columns(members: Sequence[Run]) -> tuple[str, ...]:
    ordered = sorted(members, key=lambda run: 0 if run.is_zero_shot else run.shots or 10**9)
    return tuple(dict.fromkeys(shots_column(run) for run in ordered))


def _zero_shot(runs: Sequence[Run], options: Options) -> list[Table]:
    """One column a dataset, and their average; where there are several."""
    tables = []
    for members in split([r for r in runs if r.is_zero_shot], lambda r: None, lambda r: None):
        names = _data_sets(members)
        if len(names) < 2:
            continue
        rows, notes = make_rows(members, lambda run: run.dataset, options)
        rows, lacks = with_average(rows, names)
        rows += published_rows(options, "zero-shot", members, partial(_each, names))
        facts = about(members, "datasets", str(len(names)))
        tables.append(Table(ZERO_SHOT, facts, [*names, AVERAGE], rows, [*notes, *lacks]))
    return tables


def _each(names: Sequence[str], entry: Published) -> dict[str, Cell]:
    return {name: published(entry.results[name][0]) for name in names if name in entry.results}


def _data_sets(members: Sequence[Run]) -> list[str]:
    """Those of the trained runs, or of all where nothing is trained."""
    trained = [run for run in members if not run.is_zero_shot]
    return sorted({run.dataset for run in trained or members})
