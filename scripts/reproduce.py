"""Reproduce the paper: 11 datasets x 3 seeds x methods x protocols; finished jobs are skipped.

    scripts/reproduce.sh --dry-run                  # the jobs, and what is missing
    DATA=/path/to/datasets scripts/reproduce.sh
    scripts/reproduce.sh --methods coop textrefiner --protocols base2new --datasets critters \\
        --seeds 1                                   # on a CPU, without any download

DATA and OUTPUT are read from the environment; jobs and folders are those of
scripts/<method>/<protocol>.sh. Datasets, weights and teachers of all jobs are checked first: if one
is missing and cannot be downloaded or trained, nothing is started and the exit code is 2, unless
--allow-missing leaves those jobs out. A failed training leaves its tests undone, a failed test the
further tests of that model; the others continue, and the exit code is 1. The output of each job is
written to OUTPUT/reproduce/logs, the tables to OUTPUT/reproduce/results.md and results.json.

Protocols: base2new, xd (cross-dataset) and dg (domain generalization) from each source among the
datasets, fewshot, zeroshot. The zero-shot model has no seed and is tested once.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dassl.engine.run_records import RESULT, is_finished  # noqa: E402
from dassl.utils import UsageError, nearest  # noqa: E402
from dassl.utils.arguments import Parser, positive, seed  # noqa: E402
from scripts.runner.execute import run_chains, run_command, run_in_threads  # noqa: E402
from scripts.runner.files import make_folder  # noqa: E402
from scripts.runner.job import FAILED, Chain, Job, Request, Workspace  # noqa: E402
from scripts.runner.plan import PLANS, plan  # noqa: E402
from scripts.runner.preflight import Need, needs  # noqa: E402
from scripts.tables.load import read_run  # noqa: E402
from scripts.tables.published import load  # noqa: E402
from scripts.tables.render import save  # noqa: E402
from scripts.tables.rows import Options  # noqa: E402
from scripts.tables.tables import build  # noqa: E402

DATASETS = (
    *("imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101"),
    *("fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101"),
)
PROTOCOLS = ("base2new", "xd", "dg", "fewshot", "zeroshot")
TARGETS = {"xd": "cross_datasets", "dg": "domains"}  # their lists in configs/protocols.yaml


@dataclass(frozen=True)
class Part:
    """The jobs of one method in one protocol on one dataset with one seed, in order."""

    group: str
    dataset: str
    jobs: Sequence[Job]


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--methods", nargs="+", default=[], help="of configs/protocols.yaml; default: all")
    add("--datasets", nargs="+", default=list(DATASETS), help="default: the 11 benchmarks")
    add("--protocols", nargs="+", default=list(PROTOCOLS), help=f"of {', '.join(PROTOCOLS)}")
    add("--seeds", nargs="+", type=seed, default=[1, 2, 3], help="default: 1 2 3")
    add("--workers", type=positive, default=1, help="jobs at a time (default: 1)")
    add("--dry-run", action="store_true", help="list the jobs and what is missing, run nothing")
    add("--allow-missing", action="store_true", help="leave out the jobs that lack something")
    return parser.parse_args(words)


def make_parts(args: argparse.Namespace, workspace: Workspace) -> list[Part]:
    """Return all parts, the seeds slowest, so a run that is stopped early has complete columns."""
    for name in args.protocols:
        if name not in PROTOCOLS:
            raise UsageError(f"unknown protocol {name!r}: {nearest(name, PROTOCOLS)}")
    for name in args.datasets:
        if name not in workspace.datasets:
            raise UsageError(f"unknown dataset {name!r}: {nearest(name, workspace.datasets)}")
    table = workspace.table
    parts: list[Part] = []
    seen: set[Path] = set()
    for number in args.seeds:
        for protocol in args.protocols:
            if protocol == "zeroshot" and number != args.seeds[0]:
                continue  # it has no seed
            for method in args.methods or table.methods:
                if PLANS[protocol].entry not in table.protocols(method):
                    continue
                for dataset in sources(protocol, args.datasets, workspace):
                    jobs = plan(Request(method, protocol, dataset, number), workspace)
                    folders = {job.folder for job in jobs}
                    if not folders <= seen:  # the zero-shot model is the same for all methods
                        parts.append(Part(f"{method} {protocol}", dataset, jobs))
                    seen |= folders
    if not parts:
        raise UsageError(
            f"no job: none of the methods has {', '.join(args.protocols)} on "
            f"{', '.join(args.datasets)} (configs/protocols.yaml)"
        )
    return parts


def sources(protocol: str, names: Sequence[str], workspace: Workspace) -> list[str]:
    """Return the datasets that a protocol is run on: for xd and dg those that have targets."""
    if protocol not in TARGETS:
        return list(names)
    known = workspace.table.sources(TARGETS[protocol])
    return [name for name in names if name in known]


def make_chains(parts: Sequence[Part]) -> list[Chain]:
    """Return a chain per training: its teacher's training, itself, and the tests of its model.

    A teacher is at the head of the chain of each of its students and runs once.
    """
    jobs = unique(parts)
    chains: dict[Path, list[Job]] = {}
    for job in jobs:
        chains.setdefault(job.model_folder or job.folder, []).append(job)
    return [[*teachers(chain[0], jobs), *chain] for chain in chains.values()]


def teachers(student: Job, jobs: Sequence[Job]) -> list[Job]:
    """Return the one of ``jobs`` that trains the teacher of ``student``, if there is one."""
    if student.teacher is None:
        return []
    weights = student.teacher.weights
    return [job for job in jobs if weights.is_relative_to(job.folder)]


def unique(parts: Sequence[Part]) -> list[Job]:
    """Return every job once; a teacher's training is in the parts of all its students."""
    return list({job.folder: job for part in parts for job in part.jobs}.values())


def show(parts: Sequence[Part], missing: Sequence[Need]) -> None:
    """Print the number of jobs by method and protocol, and what is missing."""
    jobs = unique(parts)
    done = {job.folder for job in jobs if is_finished(job.folder)}
    print(f"{len(jobs)} jobs, {len(done)} of them finished")
    for group in dict.fromkeys(part.group for part in parts):
        own = [part for part in parts if part.group == group]
        datasets = {job.folder: part.dataset for part in own for job in part.jobs}
        listed = ", ".join(
            f"{name} {number}" for name, number in Counter(datasets.values()).items()
        )
        print(f"  {group}: {len(datasets)} jobs, {len(done & datasets.keys())} finished ({listed})")
    for title, blocks in (("missing", True), ("will be downloaded or trained first", False)):
        lines = [need for need in missing if need.blocks == blocks]
        print(f"{title}: {'nothing' if not lines else ''}".rstrip())
        for need in lines:
            print(f"  {need.line}; for {len(need.jobs)} jobs")


def without_missing(parts: Sequence[Part], missing: Sequence[Need]) -> list[Part]:
    """Return the parts that lack nothing, and print how many are left out."""
    blocked = {job.folder for need in missing if need.blocks for job in need.jobs}
    kept = [part for part in parts if not blocked & {job.folder for job in part.jobs}]
    for group, number in Counter(part.group for part in parts if part not in kept).items():
        print(f"left out because of the above: {number} x {group}")
    return kept


def run_all(args: argparse.Namespace, workspace: Workspace) -> int:
    """Run all jobs and return the exit code."""
    parts = make_parts(args, workspace)
    missing = needs(unique(parts), workspace)
    show(parts, missing)
    if args.dry_run:
        return 0
    if any(need.blocks for need in missing):
        if not args.allow_missing:
            raise UsageError(
                "provide what is listed as missing first, choose a part with --datasets, "
                "--methods and --protocols, or leave out what cannot run with --allow-missing"
            )
        parts = without_missing(parts, missing)
    folder = workspace.output / "reproduce"
    jobs = unique(parts)
    make_folder(workspace.data, "DATA")
    execute = partial(run_in_threads, workers=args.workers)
    results = run_chains(make_chains(parts), workspace, folder, execute)
    failed = sum(result.status == FAILED for result in results)
    write_tables(jobs, args.seeds, folder)
    done, not_run = len(results) - failed, len(jobs) - len(results)
    print(f"{done} jobs done, {failed} failed, {not_run} not run")
    print(f"tables {folder / 'results.md'} and results.json, logs in {folder / 'logs'}")
    return int(failed > 0)


def write_tables(jobs: Sequence[Job], seeds: Sequence[int], folder: Path) -> None:
    """Write the tables of the tested jobs."""
    tested = [job.folder / RESULT for job in jobs]
    runs = [read_run(path) for path in tested if path.is_file()]
    options = Options(seeds, published=load(ROOT / "scripts" / "published.yaml"))
    save(build(runs, options), folder)


def main(words: Sequence[str], env: Mapping[str, str]) -> int:
    return run_command(lambda: run_all(parse(words), Workspace.from_env(env)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
