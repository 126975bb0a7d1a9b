"""A demo: rows of methods on Critters, base to new classes, run, tabulated and explained."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from dassl.utils import UsageError
from datasets.critters import Critters
from datasets.critters_world.folder import prepare_folder
from scripts.lib.cells import Cell
from scripts.lib.files import make_folder, write_text
from scripts.lib.jobs import Job, Place, Request
from scripts.lib.plans import plan
from scripts.lib.plots import plot_bars
from scripts.lib.progress import Progress, log_path, run_all
from scripts.lib.render import as_json, markdown
from scripts.lib.result import RESULT
from scripts.lib.rows import Options
from scripts.lib.runner import JobFailedError
from scripts.lib.runs import read_run
from scripts.lib.tables import Table, build

SEEDS = (1, 2, 3)
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

    def jobs(self, place: Place, seed: int) -> list[Job]:
        """The jobs of one seed, which follow one another; a student's teacher is among them."""
        if seed not in self.seeds:
            return []
        place = replace(place, output=place.output / self.subfolder)
        request = Request(
            self.method, self.protocol, "critters", seed, self.options, shots=self.shots
        )
        # Not the zero-shot test on all classes: the table is about base and new.
        return [job for job in plan(request, place) if CLASSES in job.options]


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

    def chains(self, place: Place) -> list[list[tuple[Method, Job]]]:
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


def run_demo(demo: Demo, place: Place) -> None:
    """Draw the data, run the jobs, show and write the table."""
    print(f"Demo on {os.cpu_count()} cores: images in {place.data}, results in {place.output}")
    make_folder(place.data, "DATA")
    make_folder(place.output, "OUTPUT")
    chains = demo.chains(place)
    prepare_folder(Critters.plan, place.data / Critters.dataset_dir)
    owners: dict[Path, Method] = {}
    for method, job in chain(*chains):
        owners.setdefault(job.folder, method)
    jobs = [[job for _, job in pairs] for pairs in chains]
    labels = {folder: method.label for folder, method in owners.items()}
    run_all(jobs, Progress(place, list(chain(*jobs)), labels))
    rows = [
        (method, [folder for folder, owner in owners.items() if owner is method])
        for method in chain(*demo.groups)
    ]
    tables = tabulate({f: m.label for m, folders in rows if m.in_table for f in folders})
    remarks = [demo.remark, *(helper(m, folders) for m, folders in rows if not m.in_table)]
    text = "\n".join([markdown(tables, []), *filter(None, remarks)])
    write_text(place.output / "results.md", text)
    write_text(place.output / "results.json", as_json(tables, []))
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
    place = Place(
        root,
        data=Path(env.get("DATA") or root / "data").absolute(),
        output=Path(env.get("OUTPUT") or root / "output").absolute() / demo.name,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        run_demo(demo, place)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except JobFailedError as error:
        path = log_path(error.job, place)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
        print(f"error: {error.job.name} failed with exit code {error.code}", file=sys.stderr)
        print(f"the last lines of {path}:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in lines), file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0
