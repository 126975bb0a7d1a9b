"""Models tested on other datasets than their own: cross-dataset and domain generalization.

The targets that are the source in another style (`domains`) are the table of domain generalization,
the others that of cross-dataset. PromptKD's cross-dataset protocol distils on the unlabeled images
of each target: its runs have tables of their own, and their source is the teacher's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from dassl.config.flat import read_config
from scripts.report.averages import with_average
from scripts.report.images import by_images, is_transductive
from scripts.report.load import Run
from scripts.report.published import AVERAGE, Published
from scripts.report.rows import Options, make_rows, protocol_setting, setting
from scripts.report.statistics import Cell, published
from scripts.report.table import Table, about, common, published_rows, shots_of
from scripts.runner.protocol_table import ProtocolTable

CROSS, DOMAIN = "cross-dataset", "domain generalization"
TEACHERS = "that of the teacher"
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@cache
def domains() -> dict[str, str]:
    """Each shifted test set of configs/protocols.yaml, in its order, and its source.

    Names are those of results (DATASET.NAME).
    """
    table = ProtocolTable.load(CONFIGS / "protocols.yaml")

    def name(dataset: str) -> str:
        return str(read_config(CONFIGS / "datasets" / f"{dataset}.yaml")["DATASET.NAME"])

    return {
        name(target): name(source)
        for source in table.sources("domains")
        for target in table.targets("domains", source)
    }


def transfer(runs: Sequence[Run], options: Options) -> list[Table]:
    """One table a source and protocol; the source's own accuracy comes first if it is there.

    Args:
        runs: tests on all classes.
    """
    moved = [run for run in runs if run.source is not None or is_transductive(run)]
    tables = []
    for protocol in (CROSS, DOMAIN):
        part = [run for run in moved if protocol_of(run) == protocol]
        for tests in by_images(part, lambda run: (run.source, run.shots, *common(run))):
            tables.append(_table(protocol, tests, runs, options))
    return tables


def protocol_of(run: Run) -> str:
    """Cross-dataset, or domain generalization where the target is the source in another style."""
    source = domains().get(run.dataset)
    is_domain = source is not None and run.source in (source, None)
    return DOMAIN if is_domain else CROSS


def _table(protocol: str, tests: Sequence[Run], runs: Sequence[Run], options: Options) -> Table:
    source = tests[0].source
    members = [*(run for run in runs if _is_beside(run, tests)), *tests]
    targets = sorted({run.dataset for run in tests}, key=_rank)
    own = [source] if source in {run.dataset for run in members} else []
    rows, notes = make_rows(members, lambda run: run.dataset, options, (protocol_setting, setting))
    columns = [*own, *targets]
    if len(targets) > 1:
        rows, lacks = with_average(rows, targets)
        columns, notes = [*columns, AVERAGE], [*notes, *lacks]
    rows += published_rows(
        options, protocol, members, partial(_published, source, columns, targets)
    )
    facts = about(tests, "source", source or TEACHERS, shots=shots_of(tests))
    if len(targets) > 1:
        facts["average"] = f"the mean over the {len(targets)} targets"
    return Table(protocol.capitalize(), facts, columns, rows, notes)


def _rank(name: str) -> tuple[int, str]:
    order = list(domains())
    return (order.index(name) if name in order else len(order), name)


def _published(
    source: str | None, columns: Sequence[str], targets: Sequence[str], entry: Published
) -> dict[str, Cell]:
    """The columns of a paper's row; its average only where that is over the same targets."""
    if source is not None and entry.trained_on != source:
        return {}
    theirs = set(entry.results) - {entry.trained_on, AVERAGE}
    wanted = [name for name in columns if name != AVERAGE or theirs == set(targets)]
    return {name: published(entry.results[name][0]) for name in wanted if name in entry.results}


def _is_beside(run: Run, tests: Sequence[Run]) -> bool:
    """Is ``run`` a training that ``tests`` used, or the zero-shot model on one of their sets?"""
    if run.source is not None or common(run) != common(tests[0]):
        return False
    if run.is_zero_shot:
        return run.dataset in {tests[0].source, *(test.dataset for test in tests)}
    is_source = run.dataset == tests[0].source and run.shots == tests[0].shots
    return is_source and setting(run) in {setting(test) for test in tests}
