"""Measures what TextRefiner adds to CoOp's train step and test, both fast.

    python -m benchmarks.refiner   # 100, 500 and 1000 classes: 6 minutes on two cores

The two run in neighboring pairs, because they are nearly the same and a machine drifts. Writes
<machine>-refiner.json and .md; `benchmarks.bench` has the row of 100 classes.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .command import heading, new_parser, save
from .report import refiner_table, table
from .timing import flops, paired_ratios
from .world import SIZES, TOY, World

__all__ = ["cost", "main"]

CLASSES, BATCH = (100, 500, 1000), 4


def cost(world: World, classes: int, batch: int, pairs: int = 9) -> dict[str, Any]:
    """Percent by which CoOp takes longer with TextRefiner: a train step, and a test batch.

    Returns:
        For "step" and "test" the median of ``pairs`` ratios (as percent above 1), their quartiles
        and the percent of the matrix products.
    """
    trainers = [world.trainer(name, classes, batch) for name in ("CoOp", "TextRefinerCoOp")]
    data = world.batch(batch, classes)
    found: dict[str, Any] = {"what": f"{classes} classes, batch {batch}", "pairs": pairs}

    def compare(name: str, runs: list[Callable[[], Any]]) -> None:
        plain, refined = (flops(run) for run in runs)
        percents = [100 * (r - 1) for r in paired_ratios(runs[0], runs[1], world.cuda, pairs)]
        low, median, high = statistics.quantiles(percents, n=4, method="inclusive")
        found[f"{name}_percent"] = median
        found[f"{name}_quartiles"] = [low, high]
        found[f"{name}_percent_of_operations"] = 100 * (refined / plain - 1)

    compare("step", [partial(trainer.forward_backward, data) for trainer in trainers])
    with torch.no_grad():
        for trainer in trainers:
            trainer.set_model_mode("eval")
        compare("test", [partial(trainer.inference(), data["img"]) for trainer in trainers])
    print(f"cost of TextRefiner over CoOp: {found}", flush=True)
    return found


def markdown(results: dict[str, Any]) -> str:
    """The tables of ``results``."""
    at = results["machine"]
    parts = [
        f"# TextRefiner over plain CoOp on {at['processor']}, {at['device']}",
        f"`{results['command']}`, commit {results['commit']}. ViT-B/16, random weights, fp32.",
        table(["fact", "value"], [[key, str(value)] for key, value in at.items()]),
        refiner_table(results["refiner"]),
    ]
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write."""
    args = new_parser(__doc__).parse_args(argv)
    torch.set_num_threads(args.threads)
    results = heading("benchmarks.refiner", argv, cuda=False)
    with tempfile.TemporaryDirectory(prefix="textrefiner-cost-") as folder:
        world = World(Path(folder), TOY if args.toy else SIZES, cuda=False)
        sizes = (2, 3) if args.toy else CLASSES
        results["refiner"] = [cost(world, classes, BATCH) for classes in sizes]
    print(save(results, markdown(results), args, "-refiner"))


if __name__ == "__main__":
    main()
