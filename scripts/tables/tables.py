"""Build the papers' tables: base to new classes, by shots, cross-dataset, domains, zero-shot.

Runs that differ in backbone, split, shots, source or training images are put in different tables;
runs that differ in a trainer option, the config, the selection rule or its epoch are put in
different rows. Only the settings that the protocols vary between datasets and shots
(`scripts.tables.grouping.varied`) may differ along a row. The zero-shot model has neither shots
nor a source: it is a row of every table of its dataset.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from dassl.config.flat import read_config
from scripts.runner.protocol_table import ProtocolTable
from scripts.tables.grouping import (
    backbone_and_split,
    by_dataset_and_averaged,
    by_images,
    datasets_of,
    group_by,
    protocol_setting,
    setting,
)
from scripts.tables.load import Run
from scripts.tables.published import AVERAGE, SHOTS, Published
from scripts.tables.rows import NOT_RUN_HERE, Options, Row, average_rows, make_rows, with_average
from scripts.tables.statistics import Cell, harmonic, published

BASE, NEW, H = "base", "new", "H"
BASE2NEW = "Base to new classes"
BY_SHOTS = "All classes, by shots"
ZERO_SHOT = "Zero-shot, all classes"
CROSS, DOMAIN = "cross-dataset", "domain generalization"
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
_IMAGES = {  # by DATASET.DISTILL_ON
    "": "labeled few-shot",
    "few_shot": "the few-shot ones without labels (DISTILL_ON, MODAL: {})",
    "all": "unlabeled of all classes (DISTILL_ON, MODAL: {})",
}


@dataclass(frozen=True)
class Table:
    """Rows with the facts that they share (``about``), and notes on missing or unusual cells."""

    title: str
    about: Mapping[str, str]
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str]


def build(runs: Sequence[Run], options: Options) -> list[Table]:
    """Return all tables of ``runs``."""
    whole = [run for run in runs if run.classes == "all"]
    parts = [run for run in runs if run.classes in (BASE, NEW)]
    plain = [run for run in whole if run.source is None and not run.is_transductive]
    zero_shot = group_by((run for run in plain if run.is_zero_shot), backbone_and_split)
    zero_shot = [members for members in zero_shot if len(datasets_of(members)) > 1]
    in_zero_shot_table = {run.folder for members in zero_shot for run in members}
    return [
        *(
            _base2new(members, names, options)
            for members, names in by_dataset_and_averaged(parts, lambda run: run.shots)
        ),
        *(
            _by_shots(members, names, options)
            for members, names in by_dataset_and_averaged(plain, lambda run: None)
            if not in_zero_shot_table.issuperset(run.folder for run in members)
        ),
        *_transfer(whole, options),
        *(_zero_shot(members, options) for members in zero_shot),
    ]


def _base2new(members: Sequence[Run], names: Sequence[str], options: Options) -> Table:
    is_average = len(names) > 1

    def from_paper(entry: Published) -> dict[str, float]:
        if is_average and entry.averaged != set(names):
            return {}
        numbers = entry.results.get(AVERAGE if is_average else names[0], ())
        return dict(zip((BASE, NEW, H), numbers, strict=False))

    def with_harmonic(row: Row) -> Row:
        base, new = (row.cells.get(column, Cell({})) for column in (BASE, NEW))
        return replace(row, cells={BASE: base, NEW: new, H: harmonic(base, new)})

    if is_average:
        rows, notes = average_rows(members, names, (BASE, NEW), lambda run: run.classes, options)
    else:
        rows, notes = make_rows(members, lambda run: run.classes, options)
    rows = [with_harmonic(row) for row in rows]
    rows += _published_rows(options, "base2new", members, from_paper)
    title, subject = _title(BASE2NEW, names)
    about = _about(members, subject, shots=_shots(members))
    if is_average:
        about["H"] = "the harmonic mean of the averaged base and the averaged new accuracy"
    return Table(title, about, (BASE, NEW, H), rows, notes)


def _by_shots(members: Sequence[Run], names: Sequence[str], options: Options) -> Table:
    def from_paper(entry: Published) -> dict[str, float]:
        return dict(zip(("0 shots",), entry.results.get(names[0], ()), strict=False))

    def averages(entry: Published) -> dict[str, float]:
        numbers = entry.results.get(AVERAGE, ()) if entry.averaged == set(names) else ()
        named = zip(map(_shots_column, SHOTS), numbers, strict=False)
        return {name: number for name, number in named if name in columns}

    def column(run: Run) -> str:
        return "0 shots" if run.is_zero_shot else _shots_column(run.shots)

    ordered = sorted(members, key=lambda run: 0 if run.is_zero_shot else run.shots or 10**9)
    columns = tuple(dict.fromkeys(map(column, ordered)))
    if len(names) > 1:
        rows, notes = average_rows(members, names, columns, column, options)
        rows += _published_rows(options, "few-shot", members, averages)
    else:
        rows, notes = make_rows(members, column, options, protocol_setting)
        rows += _published_rows(options, "zero-shot", members, from_paper)
    title, subject = _title(BY_SHOTS, names)
    return Table(title, _about(members, subject), columns, rows, notes)


def _shots_column(shots: int) -> str:
    return "all images" if shots < 1 else "1 shot" if shots == 1 else f"{shots} shots"


def _zero_shot(members: Sequence[Run], options: Options) -> Table:
    """Return a table with a column for each dataset, and their average."""
    names = datasets_of(members)
    rows, notes = make_rows(members, lambda run: run.dataset, options)
    rows, gaps = with_average(rows, names)
    rows += _published_rows(options, "zero-shot", members, lambda entry: entry.accuracies(names))
    about = _about(members, {"datasets": str(len(names))})
    return Table(ZERO_SHOT, about, [*names, AVERAGE], rows, [*notes, *gaps])


def _transfer(runs: Sequence[Run], options: Options) -> list[Table]:
    """Return a table for each source, of cross-dataset and then of domain generalization."""
    moved = [run for run in runs if run.source is not None or run.is_transductive]
    return [
        _transfer_table(protocol, tests, runs, options)
        for protocol in (CROSS, DOMAIN)
        for tests in by_images(
            (run for run in moved if _is_domain(run) == (protocol == DOMAIN)),
            lambda run: (run.source, run.shots, backbone_and_split(run)),
        )
    ]


def _transfer_table(
    protocol: str, tests: Sequence[Run], runs: Sequence[Run], options: Options
) -> Table:
    """Return the table of ``tests``, with the accuracy on the source, if any, in front."""
    source = tests[0].source
    members = [*(run for run in runs if _belongs_to(run, tests)), *tests]
    rank = {name: number for number, name in enumerate(_domains())}
    targets = sorted(
        {run.dataset for run in tests}, key=lambda name: (rank.get(name, len(rank)), name)
    )
    columns = [source] if source in {run.dataset for run in members} else []
    columns += targets

    def from_paper(entry: Published) -> dict[str, float]:
        """Return a paper's numbers; its average only if it is over the same targets."""
        if source is not None and entry.trained_on != source:
            return {}
        same_targets = set(entry.results) - {entry.trained_on, AVERAGE} == set(targets)
        return entry.accuracies(name for name in columns if name != AVERAGE or same_targets)

    rows, notes = make_rows(members, lambda run: run.dataset, options, protocol_setting)
    about = _about(tests, {"source": source or "that of the teacher"}, shots=_shots(tests))
    if len(targets) > 1:
        rows, gaps = with_average(rows, targets)
        columns, notes = [*columns, AVERAGE], [*notes, *gaps]
        about["average"] = f"the mean over the {len(targets)} targets"
    rows += _published_rows(options, protocol, members, from_paper)
    return Table(protocol.capitalize(), about, columns, rows, notes)


def _belongs_to(run: Run, tests: Sequence[Run]) -> bool:
    """Return whether ``tests`` used this training, or it is zero-shot on one of their datasets."""
    if run.source is not None or backbone_and_split(run) != backbone_and_split(tests[0]):
        return False
    if run.is_zero_shot:
        return run.dataset in {tests[0].source, *(test.dataset for test in tests)}
    is_source = run.dataset == tests[0].source and run.shots == tests[0].shots
    return is_source and setting(run) in {setting(test) for test in tests}


def _is_domain(run: Run) -> bool:
    """Return whether the test set is a shifted version of the source."""
    source = _domains().get(run.dataset)
    return source is not None and run.source in (source, None)


@cache
def _domains() -> dict[str, str]:
    """Return {test set: source} of configs/protocols.yaml, in its order, by DATASET.NAME."""
    table = ProtocolTable.load(CONFIGS / "protocols.yaml")

    def name(dataset: str) -> str:
        return str(read_config(CONFIGS / "datasets" / f"{dataset}.yaml")["DATASET.NAME"])

    return {
        name(target): name(source)
        for source in table.sources("domains")
        for target in table.targets("domains", source)
    }


def _title(title: str, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return a title and the fact that names the datasets of the table."""
    if len(names) == 1:
        return title, {"dataset": names[0]}
    return f"{title}, average over {len(names)} datasets", {"datasets": ", ".join(names)}


def _shots(members: Sequence[Run]) -> str:
    shots = next((run.shots for run in members if not run.is_zero_shot), None)
    return "none" if shots is None else "all images" if shots < 1 else str(shots)


def _about(members: Sequence[Run], subject: Mapping[str, str], **more: str) -> dict[str, str]:
    """Return the facts that all rows of a table share, with its training images in words."""
    kinds = {run.images: run.distill_on for run in members if not run.is_zero_shot}
    images = " and ".join(_IMAGES[on].format(name) for name, on in kinds.items()) or "none"
    shared = {"backbone": members[0].backbone, "split": members[0].split}
    return {**subject, **shared, **more, "images": images}


def _published_rows(
    options: Options,
    protocol: str,
    members: Sequence[Run],
    from_paper: Callable[[Published], Mapping[str, float]],
) -> list[Row]:
    """Return rows of papers in the setting of ``members``.

    Args:
        from_paper: returns the numbers of an entry by column; an entry without any is left out.
    """
    rows = []
    for entry in options.published:
        numbers = from_paper(entry) if entry.is_comparable(protocol, members) else {}
        if numbers:
            cells = {column: published(number) for column, number in numbers.items()}
            rows.append(Row(entry.method + NOT_RUN_HERE, "-", "-", cells, entry.source))
    return rows
