"""Measures the trainers beside benchmarks/naive.py and writes benchmarks/results/<machine>.

    python -m benchmarks.bench                 # quick: at most 10 minutes on two cores
    python -m benchmarks.bench --full          # 50 to 1000 classes, every method
    python -m benchmarks.bench --device cuda   # the same rows on a GPU, and its throughput

<machine>.json holds every number, <machine>.md the tables.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import torch

from . import child, refiner, rows
from .command import heading, new_parser, save
from .growth import data_share, growth
from .report import markdown
from .timing import flops, in_turns
from .world import SIZES, TOY, World

__all__ = ["main", "run"]

# Dense bf16 operations a second, from the makers' data sheets, by a part of the card's name.
PEAKS = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12}
Size = tuple[str, int, int]  # method, classes, batch
# What the project set itself: ratios of train steps, and of test batches by precision.
STEPS: dict[Size, float] = {
    ("TextRefinerCoOp", 100, 4): 5.5,
    ("CoCoOp", 50, 1): 8,
    ("TextRefinerPromptKD", 100, 8): 1.8,
}
TESTS: dict[Size, Mapping[str, float]] = {
    ("TextRefinerCoOp", 100, 8): {"fp32": 3, "bf16": 7},
    ("TextRefinerPromptKD", 100, 4): {"fp32": 5},
}
CLASSES = (50, 100, 500, 1000)  # of the full run
BATCHES = {"CoCoOp": 1, "TextRefinerCoCoOp": 1}  # of the full run, 4 for the others
# On a CPU naive runs with at most so many: its train step keeps about 38 MB a class.
NAIVE_CLASSES = 100
# But for one row, which tells how good the line through fewer classes is.
CHECK: Size = ("CoOp", 500, 4)


def time_rows(world: World, full: bool, budget: float) -> list[rows.Row]:
    """The table of times; the rows of one method follow one another and share its model."""
    found = [
        rows.text_tower(world, 100, budget, wanted=10),
        rows.cache_update(world, 25, 4 * 197, budget),
    ]
    steps, tests = dict(STEPS), dict(TESTS)
    for method, classes in product(rows.METHODS, CLASSES) if full else ():
        size = (method, classes, BATCHES.get(method, 4))
        steps.setdefault(size, 0.0)
        tests.setdefault(size, {"fp32": 0.0})
    known: defaultdict[tuple[str, str, int], list[rows.Row]] = defaultdict(list)
    for size in sorted({*steps, *tests}, key=lambda s: (rows.METHODS.index(s[0]), *s[1:])):
        method, classes, batch = size
        for kind, targets in (("step", steps), ("test", tests)):
            if size not in targets:
                continue
            before = known[kind, method, batch]
            fewer = before[:2] if classes > NAIVE_CLASSES and not world.cuda else []
            if kind == "step":
                new = [rows.train_step(world, *size, budget, steps[size], fewer)]
            else:
                new = rows.eval_batch(world, *size, budget, tests[size], fewer)
                if fewer and size == CHECK:
                    (checked,) = rows.eval_batch(world, *size, budget)
                    checked.note = "naive measured, beside the row above's line"
                    new.append(checked)
            before.append(new[0])
            found += new
    return found


def memory_rows(world: World, full: bool) -> list[dict[str, Any]]:
    """Peaks of one train step; naive's at many classes follow from those that it can hold."""
    few, some = (25, 50) if not full else (50, 100)
    names = rows.METHODS if full else ("TextRefinerCoOp", "CoCoOp")
    beside = [(name, some, BATCHES.get(name, 4)) for name in names]
    wanted = [("naive", "CoOp", few, 4), ("naive", "CoOp", some, 4), ("fast", "CoOp", 1000, 4)]
    wanted += [(kind, *sizes) for sizes in beside for kind in ("naive", "fast")]
    # Two processes at a time: they are not timed. A GPU's memory is for one.
    with ThreadPoolExecutor(1 if world.cuda else 2) as pool:
        peaks = pool.map(lambda case: child.measure(world, "memory", *case)["bytes"], wanted)
        peak = dict(zip(wanted, peaks, strict=True))
    low, high, fast = (peak[case] for case in wanted[:3])
    ends = f"{low / 2**30:.2f} GiB at {few} and {high / 2**30:.2f} at {some}"
    found: list[dict[str, Any]] = [
        {
            "what": "CoOp, 1000 classes, batch 4",
            "naive": low + (high - low) / (some - few) * (1000 - few),
            "fast": fast,
            "note": f"naive: the line through {ends}; wanted >= 4",
        }
    ]
    for name, classes, batch in beside:
        both = {kind: peak[kind, name, classes, batch] for kind in ("naive", "fast")}
        found.append({"what": f"{name}, {classes} classes, batch {batch}", **both, "note": ""})
    for row in found:
        print(f"memory of {row['what']}: {row['naive'] / row['fast']:.1f}x less", flush=True)
    return found


def gpu_rows(world: World, budget: float) -> list[dict[str, Any]]:
    """Images a second at test with bf16 towers, and the share of the card's peak."""
    name = torch.cuda.get_device_name()
    peak = next((value for key, value in PEAKS.items() if key in name), 0.0)
    found = []
    for method in ("CoOp", "TextRefinerCoOp", "PromptKD", "TextRefinerPromptKD"):
        for classes in (50, 100, 500, 1000):
            batch = 256
            trainer = world.trainer(method, classes, batch, "bf16")
            trainer.set_model_mode("eval")
            image = world.batch(batch, classes)["img"]
            with torch.no_grad():
                infer = trainer.inference()

                def run(infer: Any = infer, image: torch.Tensor = image) -> None:
                    infer(image)

                operations = flops(run)
                taken = in_turns({"fast": run}, True, budget, most=20)["fast"]
            found.append(
                {
                    "method": method,
                    "what": f"{method}, {classes} classes, batch {batch}, bf16",
                    "images_per_second": batch / taken,
                    "share_of_peak": operations / taken / peak if peak else 0.0,
                }
            )
            print(f"{found[-1]['what']}: {batch / taken:,.0f} images/s", flush=True)
    return found


def run(world: World, full: bool, budget: float, results: dict[str, Any]) -> None:
    """Add everything to ``results``, which has the heading; what it then holds is written."""
    start = time.perf_counter()
    timed = time_rows(world, full, budget)
    results |= {
        "rows": [row.json() for row in timed],
        "refiner": [refiner.cost(world, 100, 4)],
        "memory": memory_rows(world, full),
        "growth": growth(world, budget / 4, full),
        "startup": [
            {
                "what": "CoOp, 100 classes, batch 4",
                **child.measure(world, "startup", "fast", "CoOp", 100, 4),
            }
        ],
        "data": [data_share(world, 100, 4)],
    }
    if world.cuda:
        results["gpu"] = gpu_rows(world, budget)
    results["machine"]["minutes"] = round((time.perf_counter() - start) / 60, 1)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked; argparse leaves with exit code 2."""
    parser = new_parser(__doc__)
    parser.add_argument("--full", action="store_true", help="all methods, 50 to 1000 classes")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--budget", type=float, help="seconds of turns a row (default: 15, with --full 6)"
    )
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.exit(2, "error: --device cuda, but PyTorch finds no GPU here: leave it out\n")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write."""
    args = parse(argv)
    torch.set_num_threads(args.threads)
    cuda = args.device == "cuda"
    budget = args.budget or (6 if args.full else 15)
    results = heading("benchmarks.bench", argv, cuda)
    with tempfile.TemporaryDirectory(prefix="textrefiner-bench-") as folder:
        world = World(Path(folder), TOY if args.toy else SIZES, cuda)
        run(world, args.full, budget, results)
    where = save(results, markdown(results), args, "-full" if args.full else "")
    print(f"{where}: {results['machine']['minutes']} minutes")


if __name__ == "__main__":
    main()
