"""Run a grid of methods, datasets and seeds: on this machine, a Ray cluster, or with Slurm.

    python scripts/sweep.py --trainers coop textrefiner --datasets critters --seeds 1 2 3 \\
        --protocol base2new                                    # on a CPU, one after another
    python scripts/sweep.py --trainers CoOp TextRefinerCoOp --datasets dtd eurosat --seeds 1 2 3 \\
        --protocol base2new fewshot --ray --ray-address auto   # on a cluster (docs/scale.md)

Jobs are those of scripts/<method>/<protocol>.sh: the same folders, skipped when finished, resumed
when not. DATA and OUTPUT are read from the environment, as by the scripts. While it runs,
OUTPUT/sweeps/NAME/results.md contains the table of finished jobs, and logs/ the output of each. A
failed job ends its chain (a test without its training), not the others. Exit codes: 0 done, 1 a job
failed, 2 wrong usage, 130 interrupted with Ctrl-C; the same command resumes.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dassl.config.flat import parse_pairs  # noqa: E402
from dassl.engine.run_records import RESULT  # noqa: E402
from dassl.utils import UsageError  # noqa: E402
from dassl.utils.arguments import Parser, positive, seed, share, whole  # noqa: E402
from scripts.runner.execute import (  # noqa: E402
    run_chains,
    run_command,
    run_in_threads,
    run_on_ray,
    run_on_slurm,
)
from scripts.runner.files import make_folder  # noqa: E402
from scripts.runner.job import DONE, FAILED, SKIPPED, Chain, Result, Workspace  # noqa: E402
from scripts.runner.plan import plan_grid  # noqa: E402
from scripts.runner.resources import show_estimates  # noqa: E402
from scripts.tables.load import read_run  # noqa: E402
from scripts.tables.render import save  # noqa: E402
from scripts.tables.rows import Options  # noqa: E402
from scripts.tables.tables import build  # noqa: E402


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add(
        "--trainers", nargs="+", required=True, help="methods of configs/protocols.yaml or trainers"
    )
    add("--datasets", nargs="+", required=True, help="files of configs/datasets, without .yaml")
    add("--seeds", nargs="+", type=seed, default=[1, 2, 3], help="default: 1 2 3")
    add("--protocol", nargs="+", default=["base2new"], help="default: base2new")
    add("--set", nargs="+", default=[], metavar="KEY VALUE", help="pairs for every job")
    add("--name", help="of the folder below OUTPUT/sweeps; default: the protocols")
    add(
        "--dry-run",
        action="store_true",
        help="print the jobs with their expected time and memory, run nothing",
    )
    add("--workers", type=positive, default=1, help="chains at a time on this machine (default: 1)")
    cluster = parser.add_argument_group("on a cluster (pip install -r requirements-sweep.txt)")
    kinds = cluster.add_mutually_exclusive_group()
    kinds.add_argument("--ray", action="store_true", help="run each chain of jobs as a Ray task")
    kinds.add_argument("--slurm", action="store_true", help="run each chain of jobs as a Slurm job")
    add = cluster.add_argument
    add(
        "--cpus",
        type=positive,
        default=1,
        help="CPUs of a chain, threads of its jobs (default: 1)",
    )
    add("--gpus", type=share, help="GPUs of a chain; Ray: below 1 to share one (default: 1)")
    add("--ray-address", help="of a running cluster, or auto; default: one on this machine")
    add("--retries", type=whole(0), default=3, help="Ray: of a chain whose node died (default: 3)")
    add("--partition", help="Slurm: default: the cluster's")
    add("--time", type=positive, default=1440, help="Slurm: minutes for a chain (default: 1440)")
    add("--array", type=positive, default=256, help="Slurm: chains at a time (default: 256)")
    args = parser.parse_args(words)
    if args.ray_address and not args.ray:
        raise UsageError(f"--ray-address {args.ray_address} is read with --ray only: add --ray")
    if args.slurm and args.gpus is not None and not args.gpus.is_integer():
        raise UsageError(f"--gpus {args.gpus:g} is a share, which Slurm does not have: give 0 or 1")
    if args.name is not None and Path(args.name).name != args.name:
        raise UsageError(
            f"--name takes the name of a folder below OUTPUT/sweeps, without slashes, got "
            f"{args.name!r}"
        )
    return args


def execution(args: argparse.Namespace) -> Any:
    """Return the function of scripts.runner.execute that runs the chains, with its options."""
    if args.ray:
        return partial(
            run_on_ray,
            address=args.ray_address,
            cpus=args.cpus,
            gpus=args.gpus,
            retries=args.retries,
        )
    if args.slurm:
        return partial(
            run_on_slurm,
            partition=args.partition,
            cpus=args.cpus,
            gpus=None if args.gpus is None else int(args.gpus),
            minutes=args.time,
            array=args.array,
        )
    return partial(run_in_threads, workers=args.workers)


def run_sweep(args: argparse.Namespace, workspace: Workspace) -> int:
    """Run the sweep and return its exit code."""
    chains = plan_grid(
        args.trainers, args.datasets, args.seeds, args.protocol, parse_pairs(args.set), workspace
    )
    if args.dry_run:
        show_estimates(chains, workspace)
        return 0
    for dataset in args.datasets:
        workspace.make_folders(dataset)
    folder = workspace.output / "sweeps" / (args.name or "-".join(args.protocol))
    make_folder(folder, "--name")
    show_estimates(chains, workspace)
    results: list[Result] = []

    def watch(result: Result) -> None:
        results.append(result)
        if _has_test(result):
            write_table(results, args.seeds, folder)

    try:
        run_chains(chains, workspace, folder, execution(args), watch)
    finally:
        print(summary(results, chains, folder))
    print("\n" + write_table(results, args.seeds, folder), end="")
    return int(any(result.status == FAILED for result in results))


def write_table(results: Sequence[Result], seeds: Sequence[int], folder: Path) -> str:
    """Write the table of the tested jobs to ``folder``, and return it."""
    runs = [read_run(result.job.folder / RESULT) for result in results if _has_test(result)]
    return save(build(runs, Options(seeds)), folder)


def summary(results: Sequence[Result], chains: Sequence[Chain], folder: Path) -> str:
    """Return how many jobs were done, failed (with reasons) and were not reached."""
    counts = Counter(result.status for result in results)
    jobs = {job.folder for chain in chains for job in chain}
    lines = [
        f"{counts[DONE]} jobs done, {counts[SKIPPED]} finished before, {counts[FAILED]} failed, "
        f"{len(jobs) - len(results)} not run"
    ]
    lines += [f"failed: {result.reason}" for result in results if result.status == FAILED]
    return "\n".join([*lines, f"table and logs: {folder}"])


def _has_test(result: Result) -> bool:
    return result.status in (DONE, SKIPPED) and (result.job.folder / RESULT).is_file()


def main(words: Sequence[str], env: Mapping[str, str]) -> int:
    return run_command(lambda: run_sweep(parse(words), Workspace.from_env(env)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
