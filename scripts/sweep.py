"""A grid of trainings and tests: trainers x datasets x seeds, here or on a Ray cluster.

    python scripts/sweep.py --trainers coop textrefiner --datasets critters --seeds 1 2 3 \\
        --protocol base2new                                    # on a CPU, one after another
    python scripts/sweep.py --trainers CoOp TextRefinerCoOp --datasets dtd eurosat --seeds 1 2 3 \\
        --protocol base2new fewshot --ray --ray-address auto   # on a cluster (docs/scale.md)

Jobs are those of scripts/<method>/<protocol>.sh: the same folders, skipped when finished, resumed
when not. DATA and OUTPUT come from the environment, as for the scripts. While it runs, the table of
what is done stands in OUTPUT/sweeps/NAME/results.md, what each job printed in logs/ beside it. A
failed job ends its chain (a test without its training), not the others; the exit code is then 1.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tqdm import tqdm  # noqa: E402

from dassl.config.flat import parse_pairs  # noqa: E402
from dassl.utils import UsageError  # noqa: E402
from scripts.report.load import read_run  # noqa: E402
from scripts.report.render import save  # noqa: E402
from scripts.report.rows import Options  # noqa: E402
from scripts.report.tables import build  # noqa: E402
from scripts.run import check_folders, find_workspace  # noqa: E402
from scripts.runner.command import run_command  # noqa: E402
from scripts.runner.files import make_folder  # noqa: E402
from scripts.runner.grid import Chain, grid  # noqa: E402
from scripts.runner.job import Job, Workspace  # noqa: E402
from scripts.runner.pool import log_in  # noqa: E402
from scripts.runner.ray_cluster import RayCluster  # noqa: E402
from scripts.runner.resources import Estimates  # noqa: E402
from scripts.runner.result import RESULT  # noqa: E402
from scripts.runner.sweeping import DONE, FAILED, SKIPPED, Executor, Local, Result, sweep  # noqa: E402


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--trainers", nargs="+", required=True, help="methods of configs/protocols.yaml or trainers"
    )
    add("--datasets", nargs="+", required=True, help="files of configs/datasets, without .yaml")
    add("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default: 1 2 3")
    add("--protocol", nargs="+", default=["base2new"], help="default: base2new")
    add("--set", nargs="+", default=[], metavar="KEY VALUE", help="pairs for every job")
    add("--name", help="of the folder below OUTPUT/sweeps; default: the protocols")
    add("--dry-run", action="store_true", help="print the jobs and what they would take")
    cluster = parser.add_argument_group("on a Ray cluster (pip install -r requirements-sweep.txt)")
    add = cluster.add_argument
    add("--ray", action="store_true", help="run the jobs as Ray tasks")
    add("--ray-address", help="of a running cluster, or auto; default: one on this machine")
    add("--cpus", type=float, default=1, help="CPUs and threads of a job (default: 1)")
    add("--gpus", type=float, help="of a job, such as 0.25; default: from its measured memory")
    add("--retries", type=int, default=3, help="of a job whose node died (default: 3)")
    args = parser.parse_args(words)
    if args.ray_address and not args.ray:
        raise UsageError(f"--ray-address {args.ray_address} is read with --ray: add it")
    return args


class Board:
    """The live progress line, the table on disk and the summary."""

    def __init__(self, chains: Sequence[Chain], folder: Path, seeds: Sequence[int]) -> None:
        self.folder, self.seeds = folder, seeds
        self.jobs = [job for chain in chains for job in chain.jobs]
        self.results: list[Result] = []
        self.bar = tqdm(total=len(self.jobs), unit="job", dynamic_ncols=True)

    def report(self, result: Result, estimates: Estimates) -> None:
        """Take in one result: the line, the estimates, the table."""
        self.results.append(result)
        took = f"{result.seconds:.0f} s" if result.status == DONE else result.status
        tested = result.job.folder / RESULT
        shown = f", {read_run(tested).accuracy:.1f} %" if _has_test(result) else ""
        tqdm.write(f"{result.job.name}: {took}{shown}")
        if result.status == FAILED:
            tqdm.write(f"  {result.reason}")
        else:
            estimates.add(result.job.folder)
        self.bar.update()
        self.bar.set_postfix(Counter(each.status for each in self.results))
        if _has_test(result):
            self.write()

    def write(self) -> str:
        """The table of the jobs that have been tested so far; returns what was written."""
        runs = [read_run(job.folder / RESULT) for job in self.jobs if self._is_done(job)]
        return save(build(runs, Options(self.seeds)), self.folder)

    def _is_done(self, job: Job) -> bool:
        return any(result.job is job and _has_test(result) for result in self.results)

    def summary(self) -> str:
        """What was done, what failed and why, what was not reached."""
        counts = Counter(result.status for result in self.results)
        lines = [
            f"{counts[DONE]} jobs done, {counts[SKIPPED]} finished before, {counts[FAILED]} "
            f"failed, {len(self.jobs) - len(self.results)} not run"
        ]
        lines += [f"failed: {r.reason}" for r in self.results if r.status == FAILED]
        return "\n".join([*lines, f"table and logs: {self.folder}"])


def _has_test(result: Result) -> bool:
    return result.status in (DONE, SKIPPED) and (result.job.folder / RESULT).is_file()


def show_plan(chains: Sequence[Chain], estimates: Estimates) -> None:
    """The jobs, and the memory and time that each is expected to take."""
    for chain in chains:
        for job in chain.jobs:
            print(f"{job.name}\n  {estimates.line(job)}")


def run_sweep(args: argparse.Namespace, place: Workspace) -> int:
    """Everything after the command line; the exit code."""
    chains = grid(
        args.trainers, args.datasets, args.seeds, args.protocol, parse_pairs(args.set), place
    )
    estimates = Estimates(place)
    if args.dry_run:
        show_plan(chains, estimates)
        return 0
    for dataset in args.datasets:
        check_folders(place, dataset)
    folder = place.output / "sweeps" / (args.name or "-".join(args.protocol))
    make_folder(folder, "--name")

    log = log_in(folder, place)
    executor: Executor = Local(place, log)
    if args.ray:
        executor = RayCluster(
            place, log, estimates, args.ray_address, args.cpus, args.gpus, args.retries
        )
        print(executor.about)
    show_plan(chains, estimates)
    board = Board(chains, folder, args.seeds)
    try:
        sweep(chains, executor, lambda result: board.report(result, estimates))
    finally:
        board.bar.close()
        print(board.summary())
    print("\n" + board.write(), end="")
    return int(any(result.status == FAILED for result in board.results))


def main(words: Sequence[str], env: Mapping[str, str]) -> int:
    return run_command(lambda: run_sweep(parse(words), find_workspace(env)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
