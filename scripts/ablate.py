"""Ablate TextRefiner on CoOp, base to new classes: which of its parts help, and how much?

    scripts/ablate.sh critters 1 2 3                                   # 23 rows, on a CPU
    scripts/ablate.sh critters 1 --variants full no-cache aggregation-only coop
    DATA=/path/to/datasets scripts/ablate.sh dtd 1 2 3 --workers 1     # on a GPU

Changes one setting of the refiner at a time, with everything else as in
scripts/textrefiner/base2new.sh, and compares with plain CoOp: base, new and H over the seeds, and H
against the full method for each seed. Each variant has its own folder
OUTPUT/ablate/DATASET/VARIANT; finished jobs are skipped. The table is also written to
OUTPUT/ablate/DATASET/results.md and results.json. A top-k above the backbone's number of patches is
refused by its training, and its row remains empty; --variants leaves it out.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dassl.config.flat import parse_pairs  # noqa: E402
from dassl.engine.run_records import RESULT  # noqa: E402
from dassl.utils import UsageError, nearest  # noqa: E402
from dassl.utils.arguments import Parser, positive, seed  # noqa: E402
from scripts.runner.execute import run_chains, run_command, run_in_threads  # noqa: E402
from scripts.runner.files import make_folder, write_text  # noqa: E402
from scripts.runner.job import FAILED, Job, Request, Workspace  # noqa: E402
from scripts.runner.plan import plan  # noqa: E402
from scripts.runner.preflight import needs  # noqa: E402
from scripts.tables.load import read_run  # noqa: E402
from scripts.tables.render import LEGEND, cell_text, json_cell, markdown_table  # noqa: E402
from scripts.tables.statistics import Cell, harmonic  # noqa: E402

FULL = "full"
OFF = {"CACHE": "False", "LOCAL": "False"}


@dataclass(frozen=True)
class Variant:
    """One row: ``settings`` are keys of TRAINER.TEXTREFINER."""

    label: str
    settings: Mapping[str, str]
    method: str = "textrefiner"

    @property
    def options(self) -> dict[str, str]:
        return {f"TRAINER.TEXTREFINER.{key}": value for key, value in self.settings.items()}


def _values(slug: str, label: str, key: str, values: Sequence[str]) -> dict[str, Variant]:
    return {f"{slug}-{value}": Variant(f"{label} {value}", {key: value}) for value in values}


# The defaults (cache size 25, alpha 0.2, momentum 0.8, top-k 5) are the full method.
VARIANTS = {
    "coop": Variant("plain CoOp", {}, method="coop"),
    FULL: Variant("full (cache size 25, alpha 0.2, momentum 0.8, top-k 5)", {}),
    "no-cache": Variant("no cache", {"CACHE": "False"}),
    "no-local": Variant("no local loss", {"LOCAL": "False"}),
    "no-reg": Variant("no regularizer", {"REG": "False"}),
    "aggregation-only": Variant("aggregation only (no cache, no local loss)", OFF),
    "alpha-0": Variant("alpha 0 (the prompts are not refined)", {"ALPHA": "0.0"}),
    **_values("cache-size", "cache size", "CACHE_SIZE", ("1", "5", "50", "100")),
    **_values("alpha", "alpha", "ALPHA", ("0.05", "0.1", "0.5", "1.0")),
    **_values("momentum", "momentum", "MOMENTUM", ("0.0", "0.5", "0.95", "0.99")),
    **_values("top-k", "top-k", "TOPK", ("1", "3", "10", "20")),
}
# (what, the row with it, the row without it)
QUESTIONS = (
    ("all of TextRefiner", FULL, "coop"),
    ("aggregation and regularizer alone", "aggregation-only", "coop"),
    ("the cache", FULL, "no-cache"),
    ("the local loss", FULL, "no-local"),
    ("cache and local loss together", FULL, "aggregation-only"),
    ("the regularizer", FULL, "no-reg"),
)


@dataclass(frozen=True)
class Row:
    """A variant with its three numbers."""

    variant: Variant
    base: Cell
    new: Cell

    @property
    def h(self) -> Cell:
        return harmonic(self.base, self.new)


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("dataset", help="a file of configs/datasets, without .yaml")
    add("seeds", nargs="+", type=seed, help="the papers use 1 2 3")
    add("--variants", nargs="+", default=list(VARIANTS), help=f"of {', '.join(VARIANTS)}")
    add("--workers", type=positive, default=2, help="jobs at a time (default: 2)")
    add("--set", nargs="+", default=[], metavar="KEY VALUE", help="pairs for every job")
    add("--dry-run", action="store_true", help="list the jobs and what is missing, run nothing")
    args = parser.parse_args(words)
    for name in args.variants:
        if name not in VARIANTS:
            raise UsageError(f"unknown variant {name!r}: {nearest(name, list(VARIANTS))}")
    return args


def make_chains(args: argparse.Namespace, workspace: Workspace) -> list[tuple[str, list[Job]]]:
    """Return the jobs of each variant and seed: training and test on the new classes."""
    pairs = parse_pairs(args.set)
    own = {key for name in args.variants for key in VARIANTS[name].options} & set(pairs)
    if own:
        raise UsageError(f"some variants set {', '.join(sorted(own))} themselves: leave out --set")
    chains = []
    for number in args.seeds:
        for name in args.variants:
            variant = VARIANTS[name]
            options = {**variant.options, **pairs}
            request = Request(variant.method, "base2new", args.dataset, number, options)
            jobs = plan(request, replace(workspace, output=workspace.output / name))
            chains.append((name, [replace(job, name=f"{name}: {job.name}") for job in jobs]))
    return chains


def tabulate(chains: Sequence[tuple[str, Sequence[Job]]], seeds: Sequence[int]) -> dict[str, Row]:
    """Return a row per variant, from the tested jobs."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for name, jobs in chains:
        cells = found.setdefault(name, {"base": {}, "new": {}})
        for job in jobs:
            if (job.folder / RESULT).is_file():
                run = read_run(job.folder / RESULT)
                cells[run.classes][run.seed] = run.accuracy
    return {
        name: Row(VARIANTS[name], _cell(cells["base"], seeds), _cell(cells["new"], seeds))
        for name, cells in found.items()
    }


def _cell(values: Mapping[int, float], seeds: Sequence[int]) -> Cell:
    return Cell(dict(sorted(values.items())), tuple(s for s in seeds if s not in values))


def difference(cell: Cell, other: Cell) -> str:
    """Return "+1.20 (+ + -)": the difference of the averages, and its sign for each seed."""
    if cell.mean is None or other.mean is None:
        return "n/a"
    by_seed = [cell.values[seed] - other.values[seed] for seed in sorted(cell.values)]
    signs = " ".join("+" if d > 0 else "-" if d < 0 else "=" for d in by_seed)
    return f"{cell.mean - other.mean:+.2f} ({signs})"


def render(rows: Mapping[str, Row], dataset: str, seeds: Sequence[int]) -> str:
    """Return the table, and what each part adds."""
    lines = [["Variant", "base", "new", "H", "H - full (by seed)"]]
    for name, row in rows.items():
        against = "" if name == FULL or FULL not in rows else difference(row.h, rows[FULL].h)
        numbers = [cell_text(row.base), cell_text(row.new), cell_text(row.h)]
        lines.append([row.variant.label, *numbers, against])
    named = ", ".join(map(str, seeds))
    parts = [
        f"### TextRefiner on CoOp, base to new classes: {dataset}, seeds {named}",
        markdown_table(lines),
    ]
    answers = [
        f"- {what}: base {difference(rows[a].base, rows[b].base)}, "
        f"new {difference(rows[a].new, rows[b].new)}, H {difference(rows[a].h, rows[b].h)}"
        for what, a, b in QUESTIONS
        if a in rows and b in rows
    ]
    if answers:
        parts += ["What each part adds (with it less without it, and the sign with each seed):"]
        parts += ["\n".join(answers)]
    missing = [name for name, row in rows.items() if row.h.mean is None]
    if missing:
        parts.append(f"- **Note** without all seeds, so without averages: {', '.join(missing)}")
    return "\n\n".join([*parts, LEGEND]) + "\n"


def as_json(rows: Mapping[str, Row], dataset: str) -> str:
    """Return every number with full precision."""
    content: dict[str, Any] = {"dataset": dataset, "rows": {}}
    for name, row in rows.items():
        cells = {"base": row.base, "new": row.new, "H": row.h}
        content["rows"][name] = {
            "label": row.variant.label,
            "options": row.variant.options,
            "cells": {key: json_cell(cell) for key, cell in cells.items()},
        }
    return json.dumps(content, indent=2) + "\n"


def run_all(args: argparse.Namespace, workspace: Workspace) -> int:
    """Run all variants and return the exit code."""
    folder = workspace.output / "ablate" / args.dataset
    workspace = replace(workspace, output=folder)
    chains = make_chains(args, workspace)
    jobs = [job for _, chain in chains for job in chain]
    print(f"{len(jobs)} jobs: {len(args.variants)} variants x {len(args.seeds)} seeds")
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
    results = run_chains([chain for _, chain in chains], workspace, folder, execute)
    rows = tabulate(chains, args.seeds)
    text = render(rows, args.dataset, args.seeds)
    write_text(folder / "results.md", text)
    write_text(folder / "results.json", as_json(rows, args.dataset))
    print(f"\n{text}\ntable  {folder / 'results.md'} and results.json, logs in {folder / 'logs'}")
    return int(any(result.status == FAILED for result in results))


def main(words: Sequence[str], env: Mapping[str, str]) -> int:
    return run_command(lambda: run_all(parse(words), Workspace.from_env(env)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
