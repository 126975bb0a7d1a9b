"""Run a demo: a table of methods on Critters, base to new classes."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

from dassl.engine.run_records import RESULT
from scripts.runner.execute import job_log_path, run_chains, run_command, run_in_threads
from scripts.runner.files import make_folder
from scripts.runner.job import FAILED, Job, Request, Result, Workspace
from scripts.runner.plan import plan
from scripts.tables.load import read_run
from scripts.tables.plot import plot_points, save_figure
from scripts.tables.render import save
from scripts.tables.rows import Options
from scripts.tables.statistics import Cell
from scripts.tables.tables import Table, build

SEEDS = (1, 2, 3)
TEACHER_WEIGHTS = "TRAINER.PROMPTKD.TEACHER_WEIGHTS"
WORKERS = 2  # chains of jobs at a time
TAIL = 15  # lines of a failed job's log that are shown


@dataclass(frozen=True)
class Method:
    """A row of a table or, if ``in_table`` is False, a training that other rows need.

    Rows with the same ``apart`` have tables to themselves, with ``apart`` in the titles. Teachers
    are those of the demo's folder, also for students in a ``subfolder``.
    """

    label: str
    method: str
    protocol: str = "base2new"
    seeds: Sequence[int] = SEEDS
    options: Mapping[str, str] = field(default_factory=dict)
    shots: tuple[int, ...] = ()
    subfolder: str = ""
    classes: tuple[str, ...] = ("base", "new")
    in_table: bool = True
    apart: str = ""

    def jobs(self, workspace: Workspace, seed: int) -> list[Job]:
        """Return the jobs of one seed in order; those of a student include its teacher's."""
        if seed not in self.seeds:
            return []
        request = Request(
            self.method, self.protocol, "critters", seed, self.options, shots=self.shots
        )
        jobs = plan(request, workspace)
        if self.subfolder:
            for teacher in {job.teacher for job in jobs if job.teacher}:
                given = {TEACHER_WEIGHTS: str(teacher.weights)}
                request = replace(request, options={**given, **self.options})
            jobs = plan(request, replace(workspace, output=workspace.output / self.subfolder))
        return [
            replace(job, name=f"{self.label}, {job.classes} classes, seed {seed}")
            for job in jobs
            if job.classes in self.classes
        ]


@dataclass(frozen=True)
class Demo:
    """Groups of rows; the rows of a group are run one after another.

    Attributes:
        name: of the folder below $OUTPUT.
        remark: printed below the table.
    """

    name: str
    groups: Sequence[Sequence[Method]]
    remark: str = ""

    def chains(self, workspace: Workspace) -> list[list[tuple[Method, Job]]]:
        """Return the chains of jobs: all rows' first seed before the second, long chains first.

        Every row's time is then known early, and no long chain is left for the end.
        """
        chains = []
        for seed in SEEDS:
            of_seed = [
                [(method, job) for method in group for job in method.jobs(workspace, seed)]
                for group in self.groups
            ]
            chains += sorted(filter(None, of_seed), key=len, reverse=True)
        return chains


class DemoFailedError(Exception):
    """A job failed, and the table needs all of them."""


def run_demo(demo: Demo, workspace: Workspace) -> int:
    """Generate the data, run the jobs, print and write the table; return the exit code.

    The first job that fails ends the others, and the end of its log is printed.
    """
    from datasets.critters import Critters
    from datasets.critters_world.folder import prepare_folder

    print(
        f"Demo on {os.cpu_count()} cores: images in {workspace.data}, results in {workspace.output}"
    )
    make_folder(workspace.data, "DATA")
    make_folder(workspace.output, "OUTPUT")
    prepare_folder(Critters.plan, workspace.data / Critters.dataset_dir)
    chains = demo.chains(workspace)
    jobs = [[job for _, job in pairs] for pairs in chains]
    try:
        execute = partial(run_in_threads, workers=WORKERS)
        run_chains(jobs, workspace, workspace.output, execute, raise_failure)
    except DemoFailedError as error:
        (result,) = error.args
        path = job_log_path(workspace.output / "logs", result.job, workspace)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
        print(f"error: {result.reason}", file=sys.stderr)
        print(f"the last lines of {path}:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in lines), file=sys.stderr)
        return int(result.code)
    show(demo, chains, workspace)
    return 0


def raise_failure(result: Result) -> None:
    if result.status == FAILED:
        raise DemoFailedError(result)


def show(demo: Demo, chains: Sequence[Sequence[tuple[Method, Job]]], workspace: Workspace) -> None:
    """Print and write the table of the finished jobs.

    A job that several rows need belongs to the first of them.
    """
    owners: dict[Path, Method] = {}
    for method, job in chain(*chains):
        owners.setdefault(job.folder, method)
    rows = [
        (method, [folder for folder, owner in owners.items() if owner is method])
        for method in chain(*demo.groups)
    ]
    shown = [(method, folders) for method, folders in rows if method.in_table]
    tables = []
    for apart in dict.fromkeys(method.apart for method, _ in shown):
        labels = {f: m.label for m, folders in shown if m.apart == apart for f in folders}
        tables += tabulate(labels, apart)
    remarks = [demo.remark, *(helper(m, folders) for m, folders in rows if not m.in_table)]
    text = save(tables, workspace.output, remarks)
    save_figure(plot_points(tables), workspace.output / "results.png")
    print("\n" + text)
    print(f"table  {workspace.output / 'results.md'} and results.json")
    print(f"plot   {workspace.output / 'results.png'}")
    print(f"runs   {workspace.output}: logs/, checkpoints and TensorBoard events in base2new/")


def tabulate(labels: Mapping[Path, str], apart: str = "") -> list[Table]:
    """Return the tables of the jobs in these folders, with rows in their order."""
    runs = [read_run(folder / RESULT) for folder in labels]
    tables = build(runs, Options(SEEDS, lambda run: labels[run.folder]))
    if not apart:
        return tables
    return [replace(table, title=f"{table.title}, {apart}") for table in tables]


def helper(method: Method, folders: Sequence[Path]) -> str:
    """Return a line about a method that has no row."""
    runs = [read_run(folder / RESULT) for folder in folders]
    cell = Cell({run.seed: run.accuracy for run in runs})
    spread = "" if cell.std is None else f" ± {cell.std:.2f}"
    return (
        f"{method.label}: {cell.mean:.2f}{spread} on {runs[0].classes} classes, "
        f"backbone {runs[0].backbone}\n"
    )


def main(demo: Demo, env: Mapping[str, str]) -> int:
    """Run ``demo`` in the workspace of the environment; return the exit code."""

    def command() -> int:
        workspace = Workspace.from_env(env, verbose=False)
        return run_demo(demo, replace(workspace, output=workspace.output / demo.name))

    return run_command(command)
