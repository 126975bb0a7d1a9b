"""Ablate TextRefiner, base to new classes: which of its parts help, and how much?

    scripts/ablate.sh critters --seeds 1 2 3                        # on CoOp: 43 rows, on a CPU
    scripts/ablate.sh critters --rows plain,full,no-local,w1,read-mean --method CoOp,MaPLe
    DATA=/path/to/datasets scripts/ablate.sh dtd --seeds 1 2 3 --workers 1   # on a GPU

Every row changes one part of the refiner and leaves the rest as in scripts/<method>/base2new.sh.
The row "plain" is the learner alone with the config file of the refined one, so with the same
schedule; "own-schedule" is the learner as its own protocol trains it, if that differs. --method
takes every trainer that has a twin with TextRefiner in configs/protocols.yaml.

The tables have base, new and H over the seeds, and differences paired by seed: their mean, its
95 % confidence interval and a sign test. Each row has its own folder
OUTPUT/ablate/DATASET/TRAINER/ROW; finished jobs are skipped. The tables are also written to
OUTPUT/ablate/DATASET/results.md and results.json. A top-k above the backbone's number of patches,
or a rank above its width, is refused by its training, and its row remains empty: leave it out of
--rows.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dassl.config.flat import parse_pairs  # noqa: E402
from dassl.engine.run_records import RESULT  # noqa: E402
from dassl.utils import UsageError, nearest  # noqa: E402
from dassl.utils.arguments import Parser, positive, seed  # noqa: E402
from scripts.ablation.learners import PROTOCOL, Learner, find_learner  # noqa: E402
from scripts.ablation.rows import OWN, ROWS  # noqa: E402
from scripts.ablation.table import Ablation, as_json, make_row, render  # noqa: E402
from scripts.runner.execute import run_chains, run_command, run_in_threads  # noqa: E402
from scripts.runner.files import make_folder, write_text  # noqa: E402
from scripts.runner.job import FAILED, Job, Request, Workspace  # noqa: E402
from scripts.runner.plan import plan  # noqa: E402
from scripts.runner.preflight import needs  # noqa: E402
from scripts.tables.load import read_run  # noqa: E402


@dataclass(frozen=True)
class Part:
    """The jobs of a row on a learner with one seed: training and test on the new classes."""

    learner: Learner
    row: str
    jobs: Sequence[Job]


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("dataset", help="a file of configs/datasets, without .yaml")
    add("--seeds", nargs="+", type=seed, default=[1, 2, 3], help="(default: 1 2 3)")
    add("--method", type=_names, default=["CoOp"], help="trainers, separated by commas")
    add("--rows", type=_names, default=list(ROWS), help=f"some of {','.join(ROWS)}")
    add("--workers", type=positive, default=2, help="jobs at a time (default: 2)")
    add("--set", nargs="+", default=[], metavar="KEY VALUE", help="pairs for every job")
    add("--dry-run", action="store_true", help="list the jobs and what is missing, run nothing")
    args = parser.parse_args(words)
    for name in args.rows:
        if name not in ROWS:
            raise UsageError(f"unknown row {name!r}: {nearest(name, list(ROWS))}")
    args.seeds = list(dict.fromkeys(args.seeds))
    return args


def _names(text: str) -> list[str]:
    """Return the names in "a,b,c", each once."""
    names = list(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    if not names:
        raise argparse.ArgumentTypeError(f"takes names separated by commas, got {text!r}")
    return names


def make_parts(
    args: argparse.Namespace, learners: Sequence[Learner], workspace: Workspace
) -> list[Part]:
    """Return the parts, seeds slowest, so that complete columns are there first.

    The row "own-schedule" is left out where it would repeat the row "plain".
    """
    pairs = parse_pairs(args.set)
    own = {
        key
        for name in args.rows
        for learner in learners
        for key in ROWS[name].options(learner.config_node).keys() & pairs.keys()
    }
    if own:
        raise UsageError(f"some rows set {', '.join(sorted(own))} themselves: leave out --set")
    return [
        Part(learner, name, jobs)
        for number in args.seeds
        for learner in learners
        for name in args.rows
        if (jobs := _jobs(learner, name, number, args.dataset, pairs, workspace))
    ]


def _jobs(
    learner: Learner,
    name: str,
    number: int,
    dataset: str,
    pairs: Mapping[str, str],
    workspace: Workspace,
) -> list[Job]:
    """Return the jobs of a row in its folder, or none if it is a repetition of "plain"."""
    options = {**ROWS[name].options(learner.config_node), **pairs}
    request = Request(learner.refined, PROTOCOL, dataset, number, options)
    plain = replace(request, trainer=learner.trainer)
    requests = {"refined": request, "plain": plain, "own": replace(request, method=learner.plain)}
    workspace = replace(workspace, output=workspace.output / learner.trainer)
    jobs = plan(requests[ROWS[name].model], workspace)
    if name == OWN and _same(jobs, plan(plain, workspace), workspace):
        return []
    return [_placed(job, name, learner, workspace) for job in jobs]


def _same(jobs: Sequence[Job], others: Sequence[Job], workspace: Workspace) -> bool:
    """Return whether two rows have equal settings, also by files of other names."""
    return [job.settings(workspace) for job in jobs] == [job.settings(workspace) for job in others]


def _placed(job: Job, name: str, learner: Learner, workspace: Workspace) -> Job:
    """Return a job of a row with its name and folder; a teacher is shared by all rows."""
    if job.trainer not in (learner.trainer, f"TextRefiner{learner.trainer}"):
        return job

    def placed(folder: Path | None) -> Path | None:
        output = workspace.output
        return None if folder is None else output / name / folder.relative_to(output)

    folder, model = placed(job.folder), placed(job.model_folder)
    assert folder is not None
    return replace(job, name=f"{name}: {job.name}", folder=folder, model_folder=model)


def tabulate(
    parts: Sequence[Part], args: argparse.Namespace, learners: Sequence[Learner]
) -> list[Ablation]:
    """Return the rows on each learner, from the tested jobs."""
    ablations = []
    for learner in learners:
        own = [part for part in parts if part.learner == learner]
        rows, remarks = {}, []
        for name in args.rows:
            jobs = [job for part in own if part.row == name for job in part.jobs]
            tested = [job for job in jobs if job.name.startswith(f"{name}: ")]
            results = [job.folder / RESULT for job in tested if (job.folder / RESULT).is_file()]
            if jobs:
                rows[name] = make_row(name, [read_run(path) for path in results], args.seeds)
            else:
                remarks.append(f"{name}: the same as plain, so it is left out")
        ablations.append(Ablation(learner, rows, remarks))
    return ablations


def run_all(args: argparse.Namespace, workspace: Workspace) -> int:
    """Run all rows and return the exit code."""
    folder = workspace.output / "ablate" / args.dataset
    workspace = replace(workspace, output=folder)
    learners = list(dict.fromkeys(find_learner(name, workspace.table) for name in args.method))
    parts = make_parts(args, learners, workspace)
    jobs = [job for part in parts for job in part.jobs]
    print(f"{len(jobs)} jobs: {len(parts)} trainings of {', '.join(args.method)} and their tests")
    missing = needs(jobs, workspace)
    for need in missing:
        print(f"{'missing' if need.blocks else 'will be downloaded'}: {need.line}")
    if args.dry_run:
        for job in jobs:
            print(f"  {job.name}")
        return 0
    if any(need.blocks for need in missing):
        raise UsageError("provide what is listed as missing first")
    make_folder(workspace.data, "DATA")
    execute = partial(run_in_threads, workers=args.workers)
    results = run_chains([part.jobs for part in parts], workspace, folder, execute)
    ablations = tabulate(parts, args, learners)
    text = render(ablations, args.seeds)
    write_text(folder / "results.md", text)
    write_text(folder / "results.json", as_json(ablations, args.dataset, args.seeds))
    print(f"\n{text}\ntable  {folder / 'results.md'} and results.json, logs in {folder / 'logs'}")
    return int(any(result.status == FAILED for result in results))


def main(words: Sequence[str], env: Mapping[str, str]) -> int:
    return run_command(lambda: run_all(parse(words), Workspace.from_env(env)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
