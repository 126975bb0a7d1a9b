"""The whole of the paper: 11 datasets x 3 seeds x methods x protocols; finished jobs are skipped.

    scripts/reproduce.sh --dry-run                  # the jobs, and what they lack
    DATA=/path/to/datasets scripts/reproduce.sh
    scripts/reproduce.sh --methods coop textrefiner --protocols base2new --datasets critters \\
        --seeds 1                                   # on a CPU, without any download

DATA and OUTPUT come from the environment, as for scripts/<method>/<protocol>.sh, whose jobs and
folders these are. Before it starts it looks for the datasets, the weights and the teachers of all
jobs; if a dataset or another thing that it cannot get or make is missing, nothing is started and
the exit code is 2, unless --allow-missing leaves those jobs out. A failed training
leaves its tests undone, a failed test the further tests of that model; the rest goes on, and the
exit code is then 1. What each job prints goes to OUTPUT/reproduce/logs,
the tables at the end to OUTPUT/reproduce/results.md and results.json.

Protocols: base2new, xd (cross-dataset) and dg (domain generalization) from each source among the
datasets, fewshot, zeroshot. The zero-shot model has no seed and is tested once.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dassl.utils import UsageError, nearest  # noqa: E402
from scripts.report.load import read_run  # noqa: E402
from scripts.report.published import load  # noqa: E402
from scripts.report.render import save  # noqa: E402
from scripts.report.rows import Options  # noqa: E402
from scripts.report.tables import build  # noqa: E402
from scripts.run import find_workspace  # noqa: E402
from scripts.runner import record  # noqa: E402
from scripts.runner.command import run_command  # noqa: E402
from scripts.runner.grid import Chain  # noqa: E402
from scripts.runner.job import Job, Request, Workspace  # noqa: E402
from scripts.runner.plan import PLANS, plan  # noqa: E402
from scripts.runner.planner import WEIGHTS  # noqa: E402
from scripts.runner.pool import run_chains  # noqa: E402
from scripts.runner.preflight import Need, needs  # noqa: E402
from scripts.runner.result import RESULT  # noqa: E402
from scripts.runner.sweeping import FAILED  # noqa: E402

DATASETS = (
    *("imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101"),
    *("fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101"),
)
PROTOCOLS = ("base2new", "xd", "dg", "fewshot", "zeroshot")
TARGETS = {"xd": "cross_datasets", "dg": "domains"}  # where it lists their sources


@dataclass(frozen=True)
class Part:
    """The jobs of one method in one protocol with one dataset and seed, in their order."""

    group: str
    dataset: str
    jobs: Sequence[Job]


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--methods", nargs="+", default=[], help="of configs/protocols.yaml; default: all")
    add("--datasets", nargs="+", default=list(DATASETS), help="default: the 11 benchmarks")
    add("--protocols", nargs="+", default=list(PROTOCOLS), help=f"of {', '.join(PROTOCOLS)}")
    add("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default: 1 2 3")
    add("--workers", type=int, default=1, help="jobs at a time (default: 1)")
    add("--dry-run", action="store_true", help="list the jobs and what is missing, run nothing")
    add("--allow-missing", action="store_true", help="leave out the jobs that lack something")
    args = parser.parse_args(words)
    if args.workers < 1:
        raise UsageError(f"--workers takes a positive whole number, got {args.workers}")
    return args


def make_parts(args: argparse.Namespace, place: Workspace) -> list[Part]:
    """All parts, the seeds slowest, so that a run that is stopped early has whole columns.

    Raises:
        UsageError: an unknown name, or nothing is left to run.
    """
    for name in args.protocols:
        if name not in PROTOCOLS:
            raise UsageError(f"unknown protocol {name!r}: {nearest(name, PROTOCOLS)}")
    for name in args.datasets:
        if name not in place.datasets:
            raise UsageError(f"unknown dataset {name!r}: {nearest(name, place.datasets)}")
    parts: list[Part] = []
    seen: set[Path] = set()
    for seed in args.seeds:
        for protocol in args.protocols:
            for method in args.methods or place.table.methods:
                if not has(method, protocol, place):
                    continue
                for dataset in sources(protocol, args.datasets, place):
                    jobs = plan(Request(method, protocol, dataset, seed), place)
                    if protocol == "zeroshot" and seed != args.seeds[0]:
                        continue  # it has no seed
                    if {job.folder for job in jobs} <= seen:
                        continue  # the zero-shot model is every method's
                    seen |= {job.folder for job in jobs}
                    parts.append(Part(f"{method} {protocol}", dataset, jobs))
    if not parts:
        raise UsageError(
            f"no job: none of the methods has {', '.join(args.protocols)} on "
            f"{', '.join(args.datasets)} (configs/protocols.yaml)"
        )
    return parts


def has(method: str, protocol: str, place: Workspace) -> bool:
    """Is ``method`` run in ``protocol``?"""
    return protocol in PLANS and PLANS[protocol].entry in place.table.protocols(method)


def sources(protocol: str, names: Sequence[str], place: Workspace) -> list[str]:
    """The datasets that a protocol is run on: for xd and dg those that have targets."""
    if protocol not in TARGETS:
        return list(names)
    known = place.table.sources(TARGETS[protocol])
    return [name for name in names if name in known]


def make_chains(parts: Sequence[Part], place: Workspace) -> list[Chain]:
    """Each training with the tests of its model behind it, and its teacher's training before it.

    A teacher is in front of each of its students; whoever comes second finds it finished.
    """
    chains: dict[Path, dict[Path, Job]] = {}
    for job in unique(parts):
        chains.setdefault(job.model_folder or job.folder, {})[job.folder] = job
    return [
        Chain([*teachers(next(iter(chain.values())), parts, place), *chain.values()])
        for chain in chains.values()
    ]


def teachers(student: Job, parts: Sequence[Part], place: Workspace) -> list[Job]:
    """The training among the jobs that makes the teacher of ``student``, if there is one."""
    given = student.options.get(WEIGHTS)
    if given is None:
        return []
    weights = place.root / given
    return [job for job in unique(parts) if weights.is_relative_to(job.folder)]


def unique(parts: Sequence[Part]) -> list[Job]:
    """Every job once; a teacher's training is in the parts of all its students."""
    return list({job.folder: job for part in parts for job in part.jobs}.values())


def show(parts: Sequence[Part], wants: Sequence[Need]) -> None:
    """The jobs by method and protocol, with counts, and what is missing."""
    jobs = unique(parts)
    done = {job.folder for job in jobs if record.read(job.folder, record.FINISHED) is not None}
    print(f"{len(jobs)} jobs, {len(done)} of them finished")
    for group in dict.fromkeys(part.group for part in parts):
        own = [part for part in parts if part.group == group]
        own_jobs = unique(own)
        where = {job.folder: part.dataset for part in own for job in part.jobs}
        count = Counter(where.values())
        listed = ", ".join(f"{name} {number}" for name, number in count.items())
        finished = sum(job.folder in done for job in own_jobs)
        print(f"  {group}: {len(own_jobs)} jobs, {finished} finished ({listed})")
    for title, blocks in (("missing", True), ("will be fetched or made first", False)):
        lines = [need for need in wants if need.blocks == blocks]
        print(f"{title}: {'nothing' if not lines else ''}".rstrip())
        for need in lines:
            print(f"  {need.line}; for {len(need.jobs)} jobs")


def without_missing(parts: Sequence[Part], wants: Sequence[Need]) -> list[Part]:
    """The parts that lack nothing; says which are left out."""
    blocked = {job.folder for need in wants if need.blocks for job in need.jobs}
    kept = [part for part in parts if not blocked & {job.folder for job in part.jobs}]
    out = Counter(part.group for part in parts if part not in kept)
    for group, number in out.items():
        print(f"left out, for lack of the above: {number} x {group}")
    return kept


def run_all(args: argparse.Namespace, place: Workspace) -> int:
    """Everything after the command line; the exit code."""
    parts = make_parts(args, place)
    wants = needs(unique(parts), place)
    show(parts, wants)
    if args.dry_run:
        return 0
    if any(need.blocks for need in wants):
        if not args.allow_missing:
            raise UsageError(
                "what is listed as missing must be there first; --datasets, --methods and "
                "--protocols choose a part, --allow-missing leaves out what cannot run"
            )
        parts = without_missing(parts, wants)
    folder = place.output / "reproduce"
    jobs = unique(parts)
    results = run_chains(make_chains(parts, place), place, folder, args.workers)
    failed = [result for result in results if result.status == FAILED]
    write_tables(jobs, args.seeds, folder)
    not_run = len(jobs) - len({result.job.folder for result in results})
    print(f"{len(jobs) - len(failed) - not_run} jobs done, {len(failed)} failed, {not_run} not run")
    print(f"tables {folder / 'results.md'} and results.json, logs in {folder / 'logs'}")
    return int(bool(failed))


def write_tables(jobs: Sequence[Job], seeds: Sequence[int], folder: Path) -> None:
    """The tables of the jobs that have been tested."""
    tested = [job.folder / RESULT for job in jobs]
    runs = [read_run(path) for path in tested if path.is_file()]
    options = Options(seeds, published=load(ROOT / "scripts" / "published.yaml"))
    save(build(runs, options), folder)


def main(words: Sequence[str], env: Mapping[str, str]) -> int:
    return run_command(lambda: run_all(parse(words), find_workspace(env)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
