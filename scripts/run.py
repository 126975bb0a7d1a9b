"""Run one method in one protocol on one dataset with one seed: all of scripts/<method>/*.sh.

    python scripts/run.py coop base2new dtd 1
    python scripts/run.py textrefiner base2new critters 1 OPTIM.MAX_EPOCH 1   # on a CPU

    METHOD    an entry of configs/protocols.yaml: coop, textrefiner, cocoop, maple, ...
    PROTOCOL  base2new, base2new_train, base2new_test; xd (the source, then its targets), xd_train,
              xd_test; dg (the source, then its domains); fewshot; zeroshot; teacher, teacher_xd
    DATASET   a file of configs/datasets, without .yaml (xd, dg, xd_train: imagenet if left out)
    SEED      a whole number; the papers use 1, 2 and 3
    KEY VALUE pairs for train.py may follow; --dry-run prints the jobs with their expected time and
    memory, as comments, and then the commands, and runs nothing

Environment variables

    DATA      folder of the datasets; default: data/ of the repository
    OUTPUT    folder of the results; default: output/ of the repository
    CFG       another file below configs/trainers/<trainer>, without .yaml
    SHOTS     other shots than the protocol's, such as "4" or "1 2 4"
    SOURCE    for xd_test, and xd_train of a student: the dataset of the (teacher's) training;
              default: the source that has DATASET among its targets in configs/protocols.yaml
    CUDA_VISIBLE_DEVICES    the GPU
    TEXTREFINER_DRY_RUN=1   the same as --dry-run

A finished job is skipped (run.json records it), an unfinished one resumed, and one that another
command is running waited for. Exit codes: those of train.py; 2: wrong usage; 130: Ctrl-C.
"""

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dassl.config.flat import parse_pairs  # noqa: E402
from dassl.utils import UsageError  # noqa: E402
from dassl.utils.arguments import MAX_SEED  # noqa: E402
from scripts.runner.execute import run_chain, run_command  # noqa: E402
from scripts.runner.job import DONE, Request, Result, Workspace  # noqa: E402
from scripts.runner.plan import plan  # noqa: E402
from scripts.runner.resources import show_estimates  # noqa: E402

DRY_RUN = "--dry-run"
OF_A_SOURCE = ("xd", "xd_train", "dg", "teacher_xd")  # their dataset may be left out: imagenet
FIELDS = ("METHOD", "PROTOCOL", "DATASET", "SEED")


@dataclass(frozen=True)
class CommandLine:
    """The checked arguments of run.py."""

    request: Request
    dry_run: bool


def parse(words: list[str], env: Mapping[str, str]) -> CommandLine:
    """Parse arguments and environment; raise UsageError if one is missing or not allowed."""
    dry_run = DRY_RUN in words or env.get("TEXTREFINER_DRY_RUN") == "1"
    words = [word for word in words if word != DRY_RUN]
    if words[1:2] and words[1] in OF_A_SOURCE and len(words) > 2 and _is_int(words[2]):
        words.insert(2, "imagenet")
    if len(words) < len(FIELDS):
        raise UsageError(
            f"{FIELDS[len(words)]} is missing; usage: run.py {' '.join(FIELDS)} [KEY VALUE ...]"
        )
    method, protocol, dataset, seed, *options = words
    if not _is_int(seed) or int(seed) > MAX_SEED:
        raise UsageError(
            f"SEED must be a whole number such as 1, at most {MAX_SEED:,}, got {seed!r}"
        )
    request = Request(
        method,
        protocol,
        dataset,
        int(seed),
        options=parse_pairs(options),
        config=env.get("CFG") or None,
        shots=_parse_shots(env.get("SHOTS", "")),
        source=env.get("SOURCE") or "",
    )
    return CommandLine(request, dry_run)


def _is_int(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 20


def _parse_shots(text: str) -> tuple[int, ...]:
    words = text.replace(",", " ").split()
    if not all(_is_int(word) and 0 < int(word) <= 1_000_000 for word in words):
        raise UsageError(
            f"SHOTS must be positive whole numbers such as '1 2 4', at most 1,000,000, got {text!r}"
        )
    return tuple(int(word) for word in words)


def main(words: list[str], env: Mapping[str, str]) -> int:
    if not words or {"-h", "--help"} & set(words):
        print(__doc__)
        return 0 if words else 2
    return run_command(lambda: run_line(words, env))


def run_line(words: list[str], env: Mapping[str, str]) -> int:
    """Run the command and return its exit code."""
    line = parse(words, env)
    workspace = Workspace.from_env(env)
    jobs = plan(line.request, workspace)
    if line.dry_run:
        show_estimates([jobs], workspace, prefix="# ")
        for job in jobs:
            print(shlex.join(job.command(workspace)))
        return 0
    workspace.make_folders(line.request.dataset)
    show_estimates([jobs], workspace)
    results = run_chain(jobs, workspace, logs=None, report=report)
    return results[-1].code if results else 0


def report(result: Result) -> None:
    if result.status == DONE:
        print(f"done  {result.job.name}: {result.seconds:.0f} s, {result.job.folder}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
