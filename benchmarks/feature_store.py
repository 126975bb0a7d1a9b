"""Measures a second evaluation against the first with DATALOADER.FEATURE_STORE.

    python -m benchmarks.feature_store               # 200 images: three minutes on one core
    python -m benchmarks.feature_store --images 5000 # the whole, measured: half an hour

CoOp at ViT-B/16 size with random weights on JPEG files of 500 x 375 pixels. An evaluation is
`trainer.test()` of a freshly built trainer, so nothing is left in memory from the one before. The
second one is also run over 5,000 files, whose entry was filled with random features; only the time
that the first one would take for as many is projected. Writes <machine>-store.json and .md.
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
from trainers.features import FeatureStore, ImagePath
from trainers.store import ArrayStore

from .command import heading, new_parser, save
from .report import table
from .world import SIZES, TOY, World, class_names, write_image

__all__ = ["main", "measure"]

CLASSES, BATCH, WANTED = 100, 50, 50.0
MANY = 5000  # images, for which a ratio of WANTED is wanted
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

    path = ImagePath(encode, learner.clip_model.visual, {})
    features = FeatureStore(
        ArrayStore(str(store), "store"), path, trainer.cfg.DATASET.ROOT, trainer.device
    )
    with contextlib.redirect_stdout(io.StringIO()):
        features.features(trainer.test_loader.loader, False, nullcontext())


def measure(world: World, count: int, many: int) -> dict[str, Any]:
    """First and second evaluations of ``count`` images, and what follows for ``many``."""
    folder, few = world.folder, max(1, count // 4)
    large = write_images(folder / "all", count)
    small = folder / "few"
    small.mkdir()
    for path in sorted(large.iterdir())[:few]:
        os.link(path, small / path.name)

    def run(what: str, images: Path, store: str | None) -> Evaluation:
        found = evaluate(world, images, folder / store if store else None)
        print(f"{what}: {found.test:.2f} s", flush=True)
        return found

    run("warm-up", small, None)
    unstored = run(f"without a store, {few} images", small, None)
    short = run(f"first, {few} images", small, "store")
    first = run(f"first, {count} images", large, "store")
    second = [run(f"second, {count} images", large, "store") for _ in range(REPEATS)]
    again = run(f"second, {few} images", small, "store")
    taken = statistics.median(found.test for found in second)

    many = max(many, count)
    listed = folder / "many"
    listed.mkdir()
    write_image(folder / "one.jpg", np.random.default_rng(0), height=world.side)
    for i in range(many):
        os.link(folder / "one.jpg", listed / f"{i:05}.jpg")
    fill(world, listed, folder / "filled")
    filled = [run(f"second, {many} images", listed, "filled") for _ in range(REPEATS)]
    taken_many = statistics.median(found.test for found in filled)

    image = (first.test - short.test) / (count - few)
    projected = first.test + (many - count) * image
    built = statistics.median(found.build for found in [first, *second])
    return {
        "images": count,
        "first": first.test,
        "first_of_few": {"images": few, "seconds": short.test},
        "first_per_image": image,
        "first_fixed": first.test - count * image,
        "second": taken,
        "ratio": first.test / taken,
        "many": many,
        "first_many": projected,
        "second_many": taken_many,
        "ratio_many": projected / taken_many,
        "ratio_many_with_build": (projected + built) / (taken_many + built),
        "second_per_image": (taken_many - taken) / max(1, many - count),
        "build": built,
        "wanted": WANTED,
        "second_logits_equal_first": all(torch.equal(f.logits, first.logits) for f in second),
        "stored_logits_equal_unstored": torch.equal(short.logits, unstored.logits)
        and torch.equal(again.logits, unstored.logits),
    }


def markdown(results: dict[str, Any]) -> str:
    """The tables of ``results``."""
    at, found = results["machine"], results["store"]
    count, many = found["images"], found["many"]
    rows = [
        [f"{count:,} (measured)", *_cells(found["first"], found["second"])],
        [f"{many:,} ({_how(found)})", *_cells(found["first_many"], found["second_many"])],
    ]
    few = found["first_of_few"]
    facts = [
        ["first: each image", f"{1000 * found['first_per_image']:.1f} ms"],
        ["first: fixed", f"{found['first_fixed']:.2f} s"],
        ["second: each image beyond", f"{1000 * found['second_per_image']:.3f} ms"],
        ["building the trainer, in neither", f"{found['build']:.2f} s"],
        [f"ratio at {many:,} with the building in both", f"{found['ratio_many_with_build']:.1f}"],
        ["second's logits equal the first's", _yes(found["second_logits_equal_first"])],
        ["they equal a run's without a store", _yes(found["stored_logits_equal_unstored"])],
    ]
    parts = [
        f"# Feature store on {at['processor']}, {at['device']}",
        f"`{results['command']}`, commit {results['commit']}. CoOp, ViT-B/16, random weights, "
        f"{CLASSES} classes, fp32, batch {BATCH}; wanted at {MANY:,} images: a second evaluation "
        f">= {found['wanted']:g} times faster. Second evaluations: median of {REPEATS}.",
        table(["fact", "value"], [[key, str(value)] for key, value in at.items()]),
        table(["images", "first s", "second s", "ratio"], rows),
    ]
    if many > count:
        parts.append(
            f"The first evaluation of {many:,} images was not run: its time is that of {count} "
            f"images and {many - count:,} times the time of an image, by the difference between "
            f"{count} images and {few['images']} ({few['seconds']:.2f} s). The second was run, "
            "over an entry of random features."
        )
    return "\n\n".join([*parts, table(["part", "value"], facts)]) + "\n"


def _cells(first: float, second: float) -> list[str]:
    return [f"{first:.2f}", f"{second:.2f}", f"**{first / second:.1f}**"]


def _how(found: dict[str, Any]) -> str:
    if found["many"] == found["images"]:
        return "measured"
    return "first projected, second measured"


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
        found = measure(world, args.images, 3 * args.images if args.toy else MANY)
    results["machine"]["load_at_end"] = round(os.getloadavg()[0], 2)
    results["store"] = found
    where = save(results, markdown(results), args, "-store")
    print(
        f"{found['ratio']:.1f}x at {found['images']:,} images, {found['ratio_many']:.1f}x at "
        f"{found['many']:,} ({_how(found)}): {where}"
    )
    if found["second_logits_equal_first"] and found["stored_logits_equal_unstored"]:
        return 0
    print("error: logits differ between evaluations; see the result file", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
