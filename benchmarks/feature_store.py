"""Measure a second evaluation against the first with DATALOADER.FEATURE_STORE.

    python -m benchmarks.feature_store               # 200 images: three minutes on two cores
    python -m benchmarks.feature_store --images 5000 # everything measured: half an hour

CoOp at ViT-B/16 size with random weights on JPEG files of 500 x 375 pixels. An evaluation is
`trainer.test()` of a new trainer, so that nothing remains in memory. With fewer than 5,000 images,
the second evaluation is also measured on 5,000 files with random features in the store, and the
time of the first one is projected. Writes <machine>-store.json and .md.
"""

import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainers.encode import ImageTokens
from trainers.feature_store.array_store import ArrayStore
from trainers.feature_store.features import FeatureStore, ImageEncoder

from .command import new_parser, run
from .report import document, table
from .world import TOY, World, quiet, write_images

__all__ = ["main", "measure"]

CLASSES, BATCH, WANTED = 100, 50, 50.0
MANY = 5000  # number of images for the target ratio
TOY_MANY = 24  # the same with --toy
REPEATS = 3  # second evaluations, of which the median is taken


class Evaluation(NamedTuple):
    """Seconds to build the trainer and to test it, and the logits (N, C)."""

    build: float
    test: float
    logits: Tensor


def build(world: World, images: Path, store: Path | None) -> Any:
    """Build a CoOp trainer on the images of a folder."""
    options = ("DATASET.ROOT", str(images), "DATALOADER.FEATURE_STORE", str(store or ""))
    workers = ("DATALOADER.NUM_WORKERS", torch.get_num_threads())
    return world.trainer("CoOp", CLASSES, BATCH, "fp32", *options, *workers)


def evaluate(world: World, images: Path, store: Path | None) -> Evaluation:
    """Build a new trainer and test it."""
    start = time.perf_counter()
    trainer = build(world, images, store)
    built = time.perf_counter()
    logits, process = [], trainer.evaluator.process

    def recording(output: Tensor, label: Tensor) -> None:
        logits.append(output.cpu())
        process(output, label)

    trainer.evaluator.process = recording
    with quiet():
        trainer.test()
    return Evaluation(built - start, time.perf_counter() - built, torch.cat(logits))


def fill(world: World, images: Path, store: Path) -> None:
    """Fill the store's entry of the images with random features."""
    trainer = build(world, images, store)
    learner, width = trainer.model.learner, world.sizes["ViT-B/16"][0]

    def encode(image: Tensor, local: bool) -> ImageTokens:
        return ImageTokens(torch.randn(len(image), width), None, None)

    path = ImageEncoder(encode, learner.clip_model.visual, {})
    arrays = ArrayStore(str(store), "store")
    features = FeatureStore(arrays, path, trainer.cfg.DATASET.ROOT, trainer.device)
    with quiet():
        features.features(trainer.test_loader.loader, False, nullcontext())


def timed(world: World, what: str, images: Path, store: str | None) -> Evaluation:
    """Run and print one evaluation; ``store`` is a folder name, None for no store."""
    found = evaluate(world, images, world.folder / store if store else None)
    print(f"{what}, {len(found.logits)} images: {found.test:.2f} s", flush=True)
    return found


def measure(world: World, count: int) -> dict[str, Any]:
    """Measure first and second evaluations of ``count`` images and compare their logits."""
    folder, few = world.folder, max(1, count // 4)
    large = write_images(folder / "all", count)
    small = folder / "few"
    small.mkdir()
    for path in sorted(large.iterdir())[:few]:
        os.link(path, small / path.name)

    timed(world, "warm-up", small, None)
    unstored = timed(world, "without a store", small, None)
    short = timed(world, "first", small, "store")
    first = timed(world, "first", large, "store")
    second = [timed(world, "second", large, "store") for _ in range(REPEATS)]
    again = timed(world, "second", small, "store")
    taken = statistics.median(found.test for found in second)

    image = (first.test - short.test) / (count - few)
    built = statistics.median(found.build for found in [first, *second])
    return {
        "images": count,
        "first": first.test,
        "first_of_few": {"images": few, "seconds": short.test},
        "first_per_image": image,
        "first_fixed": first.test - count * image,
        "second": taken,
        "ratio": first.test / taken,
        "ratio_with_build": (first.test + built) / (taken + built),
        "build": built,
        "wanted": WANTED,
        "second_logits_equal_first": all(torch.equal(f.logits, first.logits) for f in second),
        "stored_logits_equal_unstored": torch.equal(short.logits, unstored.logits)
        and torch.equal(again.logits, unstored.logits),
    }


def project(world: World, found: dict[str, Any], many: int) -> dict[str, Any]:
    """Project the first evaluation of ``many`` images from `measure`, and measure the second."""
    listed = world.folder / "many"
    listed.mkdir()
    (image,) = write_images(world.folder / "one", 1, world.side).iterdir()
    for i in range(many):
        os.link(image, listed / f"{i:05}.jpg")
    fill(world, listed, world.folder / "filled")
    filled = [timed(world, "second", listed, "filled") for _ in range(REPEATS)]
    taken = statistics.median(f.test for f in filled)
    first, built = found["first_fixed"] + many * found["first_per_image"], found["build"]
    return {
        "images": many,
        "first": first,
        "second": taken,
        "ratio": first / taken,
        "ratio_with_build": (first + built) / (taken + built),
        "second_per_image": (taken - found["second"]) / (many - found["images"]),
    }


def markdown(results: dict[str, Any]) -> str:
    """Render the results."""
    found, beyond = results["store"], results.get("projected")
    few, last = found["first_of_few"], beyond or found
    rows = [[f"{found['images']:,} (measured)", *_cells(found)]]
    facts = [
        ["first: each image", f"{1000 * found['first_per_image']:.1f} ms"],
        ["first: fixed", f"{found['first_fixed']:.2f} s"],
        ["building the trainer, in neither", f"{found['build']:.2f} s"],
        [
            f"ratio at {last['images']:,} with the building in both",
            f"{last['ratio_with_build']:.1f}",
        ],
        ["second's logits equal the first's", _yes(found["second_logits_equal_first"])],
        ["they equal a run's without a store", _yes(found["stored_logits_equal_unstored"])],
    ]
    note = (
        f"CoOp, ViT-B/16, random weights, {CLASSES} classes, fp32, batch {BATCH}; wanted at "
        f"{MANY:,} images: a second evaluation >= {found['wanted']:g} times faster. Second "
        f"evaluations: median of {REPEATS}."
    )
    parts = []
    if beyond:
        many = beyond["images"]
        rows.append([f"{many:,} (first projected, second measured)", *_cells(beyond)])
        facts.insert(
            2, ["second: each image beyond", f"{1000 * beyond['second_per_image']:.3f} ms"]
        )
        parts.append(
            f"The first evaluation of {many:,} images was not run: its time is that of "
            f"{found['images']} images plus {many - found['images']:,} times the time per image, "
            f"from the difference between {found['images']} and {few['images']} images "
            f"({few['seconds']:.2f} s). The second was run with random features in the store."
        )
    times = table(["images", "first s", "second s", "ratio"], rows)
    return document("Feature store", results, note, times, *parts, table(["part", "value"], facts))


def _cells(found: dict[str, Any]) -> list[str]:
    return [f"{found['first']:.2f}", f"{found['second']:.2f}", f"**{found['ratio']:.1f}**"]


def _yes(truth: bool) -> str:
    return "yes, bit for bit" if truth else "NO"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the results; return 1 if logits differ, else 0."""
    parser = new_parser(__doc__)
    parser.add_argument("--images", type=int, default=200, help="number of images (default: 200)")
    args = parser.parse_args(argv)
    if args.images < 4:
        parser.exit(2, f"error: --images is {args.images}, but at least 4 are needed: try 200\n")

    def add(world: World, results: dict[str, Any]) -> None:
        found = results["store"] = measure(world, args.images)
        many = TOY_MANY if world.sizes is TOY else MANY
        if many > args.images:
            results["projected"] = project(world, found, many)
        results["machine"]["load_at_end"] = round(os.getloadavg()[0], 2)

    found = run("feature_store", argv, args, add, markdown, "-store")["store"]
    print(f"{found['ratio']:.1f}x at {found['images']:,} images, measured")
    if found["second_logits_equal_first"] and found["stored_logits_equal_unstored"]:
        return 0
    print("error: logits differ between evaluations; see the result file", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
