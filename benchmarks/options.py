"""Measure options that are off by default: torch.compile, channels-last, patches by a product.

    python -m benchmarks.options

Each is measured in turns with the trainers' default at ViT-B/16 with random weights on a CPU. A
ratio above 1 means that the option is faster. Writes <machine>-options.json and .md.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from trainers.backbone import compile_encoders
from trainers.encode import encode_image

from .command import new_parser, run
from .report import document, table
from .timing import in_turns, seconds
from .world import World

__all__ = ["main", "measure"]

CLASSES, BATCH = 100, 4


def _row(what: str, as_is: Callable[[], Any], other: Callable[[], Any], budget: float) -> Any:
    times = in_turns({"as is": as_is, "with it": other}, False, budget, most=15, least=3)
    ratio = times["as is"] / times["with it"]
    print(f"{what}: {ratio:.2f}x", flush=True)
    return {"what": what, "as_is": times["as is"], "with_it": times["with it"], "ratio": ratio}


def measure(world: World, budget: float) -> list[dict[str, Any]]:
    """Measure all options with ``budget`` seconds per row."""
    return [*_memory_formats(world, budget), *_compiled(world, budget)]


@torch.no_grad()
def _memory_formats(world: World, budget: float) -> list[dict[str, Any]]:
    visual = world.clip().visual
    visual_last = world.clip().visual.to(memory_format=torch.channels_last)
    image = world.batch(BATCH, 1)["img"]
    image_last = image.to(memory_format=torch.channels_last)
    weight = visual.conv1.weight  # (width, 3, patch, patch)
    flat = weight.flatten(1).T.contiguous()
    patch = weight.shape[-1]

    def by_product() -> torch.Tensor:
        """Compute the patch embedding (B, width, patches) by one matrix product."""
        side = image.shape[-1] // patch
        blocks = image.reshape(len(image), 3, side, patch, side, patch)
        rows = blocks.permute(0, 2, 4, 1, 3, 5).reshape(len(image), side * side, -1)
        return (rows @ flat).transpose(1, 2)

    def by_convolution() -> torch.Tensor:
        return F.conv2d(image, weight, stride=patch).flatten(2)

    torch.testing.assert_close(by_product(), by_convolution(), rtol=1e-4, atol=1e-4)
    at = f"batch {BATCH}"
    runs = partial(encode_image, visual, image), partial(encode_image, visual_last, image_last)
    return [
        _row(f"channels-last, image tower, {at}", *runs, budget),
        _row(f"patch embedding alone as a product, {at}", by_convolution, by_product, budget / 4),
    ]


def _compiled(world: World, budget: float) -> list[dict[str, Any]]:
    name, size = "TextRefinerCoOp", f"{CLASSES} classes, batch {BATCH}"
    plain, compiled = (world.trainer(name, CLASSES, BATCH) for _ in range(2))
    compile_encoders(compiled.model.learner, {BATCH})
    data = world.batch(BATCH, CLASSES)
    first_step = seconds(partial(compiled.forward_backward, data), False)
    step = _row(
        f"TRAINER.COMPILE, {name} train step, {size}",
        partial(plain.forward_backward, data),
        partial(compiled.forward_backward, data),
        2 * budget,
    )
    for trainer in (plain, compiled):
        trainer.set_model_mode("eval")
    with torch.no_grad():
        test = _row(
            f"TRAINER.COMPILE, {name} test, {size}",
            partial(plain.inference(), data["img"]),
            partial(compiled.inference(), data["img"]),
            budget,
        )
    return [{**step, "first_step": first_step}, test]


def markdown(results: dict[str, Any]) -> str:
    """Render the results."""
    rows = [
        [
            row["what"],
            f"{row['as_is']:.4g}",
            f"{row['with_it']:.4g}",
            f"**{row['ratio']:.2f}**",
            f"{row['first_step']:.0f}" if "first_step" in row else "",
        ]
        for row in results["rows"]
    ]
    return document(
        "Options",
        results,
        "ViT-B/16 with random weights, fp32; medians of runs in turns. Ratio: as is / with it.",
        table(["what", "as is, s", "with it, s", "ratio", "first step, s"], rows),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write the results."""
    parser = new_parser(__doc__)
    parser.add_argument("--budget", type=float, default=15, help="seconds per row (default: 15)")
    args = parser.parse_args(argv)

    def add(world: World, results: dict[str, Any]) -> None:
        results["rows"] = measure(world, args.budget)

    run("options", argv, args, add, markdown, "-options")


if __name__ == "__main__":
    main()
