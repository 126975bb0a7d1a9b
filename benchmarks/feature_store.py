"""Measures a second evaluation against the first with DATALOADER.FEATURE_STORE.

    python -m benchmarks.feature_store               # 200 images: three minutes on two cores
    python -m benchmarks.feature_store --images 5000 # the whole, measured: half an hour

CoOp at ViT-B/16 size with random weights on JPEG files of 500 x 375 pixels. An evaluation is
`trainer.test()` of a freshly built trainer, so nothing is left in memory from the one before. With
fewer images than 5,000 the second one is also run over 5,000 files, whose entry was filled with
random features; only the time that the first one would take for as many is projected. Writes
<machine>-store.json and .md.
"""

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dassl.config import merge_opts
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from trainers.encode import ImageTokens
from trainers.feature_store.array_store import ArrayStore
from trainers.feature_store.features import FeatureStore, ImageEncoder

from .command import heading, new_parser, save
from .report import table
from .world import SIZES, TOY, World, class_names, write_image

__all__ = ["main", "measure"]

CLASSES, BATCH, WANTED = 100, 50, 50.0
MANY = 5000  # images, for which a ratio of WANTED is wanted
TOY_MANY = 24  # images in its place with --toy
REPEATS = 3  # of second evaluations; the median counts


@DATASET_REGISTRY.register()
class StoreImages(DatasetBase):
    """All JPEG files of DATASET.ROOT as the test set; labels by turns."""

    def __init__(self, cfg: Any) -> None:
        names = class_names(cfg.DATASET.CLASSES)
        files = sorted(str(path) for path in Path(cfg.DATASET.ROOT).glob("*.jpg"))
        labels = [i % len(names) for i in range(max(len(names), len(files)))]
        items = [Datum(files[i % len(files)], y, 0, names[y]) for i, y in enumerate(labels)]
        super().__init__(train_x=items, val=items[:1], test=items[: len(files)])


class Evaluation(NamedTuple):
    """Seconds to build the trainer and to test it, and the logits (N, C)."""

    build: float
    test: float
    logits: Tensor


def write_images(folder: Path, count: int) -> Path:
    """A folder of ``count`` different JPEG files."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(count):
        write_image(folder / f"{i:05}.jpg", generator)
    return folder


def build(world: World, images: Path, store: Path | None) -> Any:
    """CoOp on the images of a folder, as train.py builds it."""
    cfg = world.cfg("CoOp", CLASSES, BATCH, "fp32")
    cfg.defrost()
    folder = str(store) if store else ""
    merge_opts(cfg, ["DATASET.NAME", "StoreImages", "DATASET.ROOT", str(images)])
    merge_opts(cfg, ["DATALOADER.FEATURE_STORE", folder])
    merge_opts(cfg, ["DATALOADER.NUM_WORKERS", torch.get_num_threads()])
    cfg.freeze()
    set_random_seed(cfg.SEED)
    with contextlib.redirect_stdout(io.StringIO()):
        return build_trainer(cfg)


def evaluate(world: World, images: Path, store: Path | None) -> Evaluation:
    """One evaluation by a new trainer, which begins without anything in memory."""
    start = time.perf_counter()
    trainer = build(world, images, store)
    built = time.perf_counter()
    logits, process = [], trainer.evaluator.process

    def recording(output: Tensor, label: Tensor) -> None:
        logits.append(output.cpu())
        process(output, label)

    trainer.evaluator.process = recording
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.test()
    return Evaluation(built - start, time.perf_counter() - built, torch.cat(logits))


def fill(world: World, images: Path, store: Path) -> None:
    """Fill the entry of a folder's images with random features, in the tower's place."""
    trainer = build(world, images, store)
    learner, width = trainer.model.learner, world.sizes["ViT-B/16"][0]

    def encode(image: Tensor, local: bool) -> ImageTokens:
        return ImageTokens(torch.randn(len(image), width), None, None)

    path = ImageEncoder(encode, learner.clip_model.visual, {})
    features = FeatureStore(
        ArrayStore(str(store), "store"), path, trainer.cfg.DATASET.ROOT, trainer.device
    )
    with contextlib.redirect_stdout(io.StringIO()):
        features.features(trainer.test_loader.loader, False, nullcontext())


def timed(world: World, what: str, images: Path, store: str | None) -> Evaluation:
    """One evaluation, said; ``store`` is a folder beside the images', None for none."""
    found = evaluate(world, images, world.folder / store if store else None)
    print(f"{what}, {len(found.logits)} images: {found.test:.2f} s", flush=True)
    return found


def measure(world: World, count: int) -> dict[str, Any]:
    """First and second evaluations of ``count`` images, and their logits beside unstored ones."""
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
    """The first evaluation of ``many`` images by those of `measure`, and a second one, run."""
    listed = world.folder / "many"
    listed.mkdir()
    write_image(world.folder / "one.jpg", np.random.default_rng(0), height=world.side)
    for i in range(many):
        os.link(world.folder / "one.jpg", listed / f"{i:05}.jpg")
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
    """The tables of ``results``."""
    at, found, beyond = results["machine"], results["store"], results.get("projected")
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
    parts = [
        f"# Feature store on {at['processor']}, {at['device']}",
        f"`{results['command']}`, commit {results['commit']}. CoOp, ViT-B/16, random weights, "
        f"{CLASSES} classes, fp32, batch {BATCH}; wanted at {MANY:,} images: a second evaluation "
        f">= {found['wanted']:g} times faster. Second evaluations: median of {REPEATS}.",
        table(["fact", "value"], [[key, str(value)] for key, value in at.items()]),
    ]
    if beyond:
        many = beyond["images"]
        rows.append([f"{many:,} (first projected, second measured)", *_cells(beyond)])
        each = f"{1000 * beyond['second_per_image']:.3f} ms"
        facts.insert(2, ["second: each image beyond", each])
    parts.append(table(["images", "first s", "second s", "ratio"], rows))
    if beyond:
        parts.append(
            f"The first evaluation of {many:,} images was not run: its time is that of "
            f"{found['images']} images and {many - found['images']:,} times the time of an image, "
            f"by the difference between {found['images']} images and {few['images']} "
            f"({few['seconds']:.2f} s). The second was run, over an entry of random features."
        )
    return "\n\n".join([*parts, table(["part", "value"], facts)]) + "\n"


def _cells(found: dict[str, Any]) -> list[str]:
    return [f"{found['first']:.2f}", f"{found['second']:.2f}", f"**{found['ratio']:.1f}**"]


def _yes(truth: bool) -> str:
    return "yes, bit for bit" if truth else "NO"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked; argparse leaves with exit code 2."""
    parser = new_parser(__doc__)
    parser.add_argument("--images", type=int, default=200, help="of a first evaluation")
    args = parser.parse_args(argv)
    if args.images < 4:
        parser.exit(
            2, f"error: --images is {args.images}, at least 4 are needed for a line: try 200\n"
        )
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; the exit code is 1 if logits differ."""
    args = parse(argv)
    torch.set_num_threads(args.threads)
    results = heading("benchmarks.feature_store", argv, cuda=False)
    with tempfile.TemporaryDirectory(prefix="textrefiner-store-") as folder:
        world = World(Path(folder), TOY if args.toy else SIZES, cuda=False)
        found = results["store"] = measure(world, args.images)
        many = TOY_MANY if args.toy else MANY
        if many > args.images:
            results["projected"] = project(world, found, many)
    results["machine"]["load_at_end"] = round(os.getloadavg()[0], 2)
    where = save(results, markdown(results), args, "-store")
    print(f"{found['ratio']:.1f}x at {found['images']:,} images, measured: {where}")
    if found["second_logits_equal_first"] and found["stored_logits_equal_unstored"]:
        return 0
    print("error: logits differ between evaluations; see the result file", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
