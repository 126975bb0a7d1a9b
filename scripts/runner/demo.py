"""A demo: rows of methods on Critters, base to new classes, run, tabulated and explained."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from datasets.critters import Critters
from datasets.critters_world.folder import prepare_folder
from scripts.report.load import read_run
from scripts.report.plot import plot_bars
from scripts.report.render import save
from scripts.report.rows import Options
from scripts.report.statistics import Cell
from scripts.report.tables import Table, build
from scripts.runner.command import run_command
from scripts.runner.files import make_folder
from scripts.runner.grid import Chain
from scripts.runner.job import Job, Request, Workspace
from scripts.runner.plan import plan
from scripts.runner.pool import log_in, run_chains
from scripts.runner.result import RESULT
from scripts.runner.sweeping import FAILED, Result

SEEDS = (1, 2, 3)
WORKERS = 2  # jobs at a time: one a core
CLASSES = "DATASET.SUBSAMPLE_CLASSES"
TAIL = 15  # lines of a failed job's log that are shown


@dataclass(frozen=True)
class Method:
    """A row of the table, or, where ``in_table`` is False, what other rows need."""

    label: str
    method: str
    protocol: str = "base2new"
    seeds: Sequence[int] = SEEDS
    options: Mapping[str, str] = field(default_factory=dict)
    shots: tuple[int, ...] = ()
    subfolder: str = ""
    in_table: bool = True

    def jobs(self, place: Workspace, seed: int) -> list[Job]:
        """The jobs of one seed, which follow one another; a student's teacher is among them."""
        if seed not in self.seeds:
            return []
        place = replace(place, output=place.output / self.subfolder)
        request = Request(
            self.method, self.protocol, "critters", seed, self.options, shots=self.shots
        )
        return [
            replace(job, name=f"{self.label}, {job.options[CLASSES]} classes, seed {seed}")
            for job in plan(request, place)
            if CLASSES in job.options  # not the zero-shot test on all: the table has base and new
        ]


@dataclass(frozen=True)
class Demo:
    """What is run, in groups of rows; those of a group wait for one another.

    A job that several rows need belongs to the first that names it.

    Attributes:
        name: of the folder below $OUTPUT.
        remark: what a reader of the table should know.
    """

    name: str
    groups: Sequence[Sequence[Method]]
    remark: str = ""

    def chains(self, place: Workspace) -> list[list[tuple[Method, Job]]]:
        """Jobs that follow one another: all rows' first seed before the second, long ones first.

        So every row's time is known early, and no long chain is left for the end.
        """
        chains = []
        for seed in SEEDS:
            of_seed = [
                [(method, job) for method in group for job in method.jobs(place, seed)]
                for group in self.groups
            ]
            chains += sorted(filter(None, of_seed), key=len, reverse=True)
        return chains


class DemoFailedError(Exception):
    """A job failed, and the table needs all of them."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.reason)
        self.result = result


def run_demo(demo: Demo, place: Workspace) -> int:
    """Draw the data, run the jobs, show and write the table; the exit code.

    The first job that fails ends the rest, and its output ends with the end of that job's.
    """
    print(f"Demo on {os.cpu_count()} cores: images in {place.data}, results in {place.output}")
    make_folder(place.data, "DATA")
    prepare_folder(Critters.plan, place.data / Critters.dataset_dir)
    chains = demo.chains(place)
    jobs = [Chain([job for _, job in pairs]) for pairs in chains]
    try:
        run_chains(jobs, place, place.output, WORKERS, end_at_failure)
    except DemoFailedError as error:
        job = error.result.job
        path = log_in(place.output, place)(job)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
        print(f"error: {error}", file=sys.stderr)
        print(f"the last lines of {path}:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in lines), file=sys.stderr)
        return error.result.code
    show(demo, chains, place)
    return 0


def end_at_failure(result: Result) -> None:
    """Raise where a job failed."""
    if result.status == FAILED:
        raise DemoFailedError(result)


def show(demo: Demo, chains: Sequence[Sequence[tuple[Method, Job]]], place: Workspace) -> None:
    """Print and write the table of the finished jobs."""
    owners: dict[Path, Method] = {}
    for method, job in chain(*chains):
        owners.setdefault(job.folder, method)
    rows = [
        (method, [folder for folder, owner in owners.items() if owner is method])
        for method in chain(*demo.groups)
    ]
    tables = tabulate({f: m.label for m, folders in rows if m.in_table for f in folders})
    remarks = [demo.remark, *(helper(m, folders) for m, folders in rows if not m.in_table)]
    text = save(tables, place.output, remarks)
    plot_bars(tables, place.output / "results.png")
    print("\n" + text)
    print(f"table  {place.output / 'results.md'} and results.json")
    print(f"plot   {place.output / 'results.png'}")
    print(f"runs   {place.output}: logs/, checkpoints and TensorBoard events in base2new/")


def tabulate(labels: Mapping[Path, str]) -> list[Table]:
    """The table of the jobs in these folders, in their order, whatever their numbers say."""
    runs = [read_run(folder / RESULT) for folder in labels]
    return build(runs, Options(SEEDS, lambda run: labels[run.folder]))


def helper(method: Method, folders: Sequence[Path]) -> str:
    """A line about a method that has no row."""
    runs = [read_run(folder / RESULT) for folder in folders]
    cell = Cell({run.seed: run.accuracy for run in runs})
    spread = "" if cell.std is None else f" ± {cell.std:.2f}"
    return (
        f"{method.label}: {cell.mean:.2f}{spread} on {runs[0].classes} classes, "
        f"backbone {runs[0].backbone}\n"
    )


def main(demo: Demo, root: Path, env: Mapping[str, str]) -> int:
    """Run ``demo`` where the environment says; returns the exit code."""
    place = Workspace(
        root,
        data=Path(env.get("DATA") or root / "data").absolute(),
        output=Path(env.get("OUTPUT") or root / "output").absolute() / demo.name,
    )
    return run_command(lambda: run_demo(demo, place))
