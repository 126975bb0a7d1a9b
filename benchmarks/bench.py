"""Compare the trainers with the plain implementation in benchmarks/naive.py.

    python -m benchmarks.bench                 # quick: at most 10 minutes on two cores
    python -m benchmarks.bench --full          # 50 to 1000 classes, every method
    python -m benchmarks.bench --device cuda   # the same rows on a GPU, and its throughput

Writes <machine>.json (all numbers) and <machine>.md (tables) to benchmarks/results/.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import product
from typing import Any

import torch

from . import child, command, refiner, rows
from .growth import data_share, growth
from .report import markdown
from .timing import flops, in_turns
from .world import World

__all__ = ["main"]

# Dense bf16 operations per second from data sheets, by a part of the card's name.
PEAKS = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12}
Size = tuple[str, int, int]  # method, classes, batch
# The project's target ratios of train steps, and of test batches by precision.
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
BATCHES = {"CoCoOp": 1, "TextRefinerCoCoOp": 1}  # of the full run; 4 for the others
# Maximum for naive on a CPU: its train step needs about 38 MB per class.
NAIVE_CLASSES = 100
# One row measures naive beyond it, to check the extrapolation from fewer classes.
CHECK: Size = ("CoOp", 500, 4)


def time_rows(world: World, full: bool, budget: float) -> list[rows.Row]:
    """Measure the table of times; consecutive rows of one method share its model."""
    found = [
        rows.text_encoder(world, 100, budget, wanted=10),
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
    """Measure peak memory of a train step; extrapolate naive's to many classes."""
    few, some = (25, 50) if not full else (50, 100)
    names = rows.METHODS if full else ("TextRefinerCoOp", "CoCoOp")
    beside = [(name, some, BATCHES.get(name, 4)) for name in names]
    wanted = [("naive", "CoOp", few, 4), ("naive", "CoOp", some, 4), ("fast", "CoOp", 1000, 4)]
    wanted += [(kind, *sizes) for sizes in beside for kind in ("naive", "fast")]
    # The processes are not timed, so two run at a time; on a GPU they would share its memory.
    with ThreadPoolExecutor(1 if world.cuda else 2) as pool:
        peaks = pool.map(lambda case: child.measure(world, "memory", *case)["bytes"], wanted)
        peak = dict(zip(wanted, peaks, strict=True))
    low, high, fast = (peak[case] for case in wanted[:3])
    ends = f"{low / 2**30:.2f} GiB at {few} and {high / 2**30:.2f} at {some}"
    note = f"naive: the line through {ends}; wanted >= 4"
    naive = low + (high - low) / (some - few) * (1000 - few)
    found = [{"what": "CoOp, 1000 classes, batch 4", "naive": naive, "fast": fast, "note": note}]
    for name, classes, batch in beside:
        both = {kind: peak[kind, name, classes, batch] for kind in ("naive", "fast")}
        found.append({"what": f"{name}, {classes} classes, batch {batch}", **both, "note": ""})
    for row in found:
        print(f"memory of {row['what']}: {row['naive'] / row['fast']:.1f}x less", flush=True)
    return found


def gpu_rows(world: World, budget: float) -> list[dict[str, Any]]:
    """Measure images per second at test in bf16, and the share of the card's peak."""
    name = torch.cuda.get_device_name()
    peak = next((value for key, value in PEAKS.items() if key in name), 0.0)
    methods, batch = ("CoOp", "TextRefinerCoOp", "PromptKD", "TextRefinerPromptKD"), 256
    found = []
    for method, classes in product(methods, CLASSES):
        trainer = world.trainer(method, classes, batch, "bf16")
        trainer.set_model_mode("eval")
        with torch.no_grad():
            test = partial(trainer.inference(), world.batch(batch, classes)["img"])
            operations = flops(test)
            taken = in_turns({"fast": test}, True, budget, most=20)["fast"]
        row = {
            "method": method,
            "what": f"{method}, {classes} classes, batch {batch}, bf16",
            "images_per_second": batch / taken,
            "share_of_peak": operations / taken / peak if peak else 0.0,
        }
        print(f"{row['what']}: {row['images_per_second']:,.0f} images/s", flush=True)
        found.append(row)
    return found


def measure(world: World, results: dict[str, Any], full: bool, budget: float) -> None:
    """Add all measurements to ``results``."""
    start = time.perf_counter()
    results["rows"] = [asdict(row) for row in time_rows(world, full, budget)]
    results["refiner"] = [refiner.cost(world, 100, 4)]
    results["memory"] = memory_rows(world, full)
    results["growth"] = growth(world, budget / 4, full)
    startup = child.measure(world, "startup", "fast", "CoOp", 100, 4)
    results["startup"] = [{"what": "CoOp, 100 classes, batch 4", **startup}]
    results["data"] = [data_share(world, 100, 4)]
    if world.cuda:
        results["gpu"] = gpu_rows(world, budget)
    results["machine"]["minutes"] = round((time.perf_counter() - start) / 60, 1)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write the results."""
    parser = command.new_parser(__doc__)
    parser.add_argument("--full", action="store_true", help="all methods, 50 to 1000 classes")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--budget", type=float, help="seconds per row (default: 15, --full: 6)")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.exit(2, "error: PyTorch finds no GPU for --device cuda: use --device cpu\n")
    run = partial(measure, full=args.full, budget=args.budget or (6 if args.full else 15))
    suffix = "-full" if args.full else ""
    command.run("bench", argv, args, run, markdown, suffix, args.device == "cuda")


if __name__ == "__main__":
    main()
