"""Measure what TextRefiner adds to CoOp's train step and test.

    python -m benchmarks.refiner   # 100, 500 and 1000 classes: 6 minutes on two cores

CoOp and CoOp + TextRefiner run in neighboring pairs, because their difference is smaller than the
drift of a machine. Writes <machine>-refiner.json and .md.
"""

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from .command import new_parser, run
from .report import document, refiner_table
from .timing import flops, paired_ratios
from .world import TOY, World

__all__ = ["cost", "main"]

CLASSES, BATCH = (100, 500, 1000), 4


def cost(world: World, classes: int, batch: int, pairs: int = 9) -> dict[str, Any]:
    """Return the additional time and matrix products of a step and a test batch, in percent."""
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
    """Render the results."""
    note = "ViT-B/16, random weights, fp32."
    return document("TextRefiner over plain CoOp", results, note, refiner_table(results["refiner"]))


def measure(world: World, results: dict[str, Any]) -> None:
    """Measure all numbers of classes."""
    sizes = (2, 3) if world.sizes is TOY else CLASSES
    results["refiner"] = [cost(world, classes, BATCH) for classes in sizes]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write the results."""
    args = new_parser(__doc__).parse_args(argv)
    run("refiner", argv, args, measure, markdown, "-refiner")


if __name__ == "__main__":
    main()
