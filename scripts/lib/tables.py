"""Results as tables: base to new classes, all classes by shots, cross-dataset.

Runs that differ in data set, backbone, shots, source or split are in different tables; runs that
differ in a trainer's option, the config, the checkpoint rule or its epoch are in different rows (in
the table by shots the config may follow the shots). The zero-shot model has neither shots nor a
source: it is a row of every table of its data set.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from scripts.lib.cells import Cell, harmonic
from scripts.lib.rows import Options, Row, group_by, make_rows, setting, trainer_setting
from scripts.lib.runs import Run

BASE, NEW, H = "base", "new", "H"
BASE2NEW = "Base to new classes"


@dataclass(frozen=True)
class Table:
    """``about`` is what all rows share; ``notes`` say what is missing or strange."""

    title: str
    about: Mapping[str, str]
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str]


def build(runs: Sequence[Run], options: Options) -> list[Table]:
    """All tables of ``runs``."""
    whole = [run for run in runs if run.classes == "all"]
    parts = [run for run in runs if run.classes in (BASE, NEW)]
    return [
        *_base2new(parts, options),
        *_by_shots([run for run in whole if run.source is None], options),
        *_cross_dataset(whole, options),
    ]


def _base2new(runs: Sequence[Run], options: Options) -> list[Table]:
    tables = []
    for members in _by_dataset(runs, lambda run: run.shots):
        rows, notes = make_rows(members, lambda run: run.classes, options)
        rows = [replace(row, cells=_with_harmonic(row.cells)) for row in rows]
        about = {"data set": members[0].dataset, **_about(members), "shots": _shots_of(members)}
        tables.append(Table(BASE2NEW, about, (BASE, NEW, H), rows, notes))
    return tables


def _with_harmonic(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    base, new = (cells.get(column, Cell({})) for column in (BASE, NEW))
    return {BASE: base, NEW: new, H: harmonic(base, new)}


def _by_shots(runs: Sequence[Run], options: Options) -> list[Table]:
    tables = []
    for members in _by_dataset(runs, lambda run: None):
        columns = [_shots_column(run) for run in sorted(members, key=_shots)]
        rows, notes = make_rows(members, _shots_column, options, trainer_setting)
        about = {"data set": members[0].dataset, **_about(members)}
        tables.append(
            Table("All classes, by shots", about, tuple(dict.fromkeys(columns)), rows, notes)
        )
    return tables


def _shots(run: Run) -> int:
    return 0 if run.is_zero_shot else run.shots


def _shots_column(run: Run) -> str:
    return "1 shot" if _shots(run) == 1 else f"{_shots(run)} shots"


def _cross_dataset(runs: Sequence[Run], options: Options) -> list[Table]:
    """One table a source; its own accuracy comes first if the training is among ``runs``."""
    transferred = [run for run in runs if run.source is not None]
    tables = []
    for tests in group_by(transferred, lambda run: (run.source, run.shots, *_common(run))):
        source = str(tests[0].source)
        members = [*(run for run in runs if _is_beside(run, tests)), *tests]
        names = {run.dataset for run in members}
        columns = [*sorted(names & {source}), *sorted(names - {source})]
        rows, notes = make_rows(members, lambda run: run.dataset, options)
        about = {"source": source, **_about(tests), "shots": _shots_of(tests)}
        tables.append(Table("Cross-dataset", about, columns, rows, notes))
    return tables


def _is_beside(run: Run, tests: Sequence[Run]) -> bool:
    """Is ``run`` a training that ``tests`` used, or the zero-shot model on one of their sets?"""
    if run.source is not None or _common(run) != _common(tests[0]):
        return False
    if run.is_zero_shot:
        return run.dataset in {tests[0].source, *(test.dataset for test in tests)}
    is_source = run.dataset == tests[0].source and run.shots == tests[0].shots
    return is_source and setting(run) in {setting(test) for test in tests}


def _by_dataset(runs: Sequence[Run], more: Callable[[Run], Hashable]) -> list[list[Run]]:
    """The runs of each table; those without training join every table of their data set.

    Args:
        more: what else the trained runs of one table share.
    """
    tables = []
    for members in group_by(runs, lambda run: (run.dataset, *_common(run))):
        references = [run for run in members if run.is_zero_shot]
        trained = group_by((run for run in members if not run.is_zero_shot), more)
        tables += [references + part for part in trained] or [references]
    return tables


def _common(run: Run) -> tuple[str, str]:
    return (run.backbone, run.split)


def _about(members: Sequence[Run]) -> dict[str, str]:
    return {"backbone": members[0].backbone, "split": members[0].split}


def _shots_of(members: Sequence[Run]) -> str:
    return next((str(run.shots) for run in members if not run.is_zero_shot), "none")
