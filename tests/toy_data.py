"""Small data folders in the layouts of the real datasets, made of generated images."""

from __future__ import annotations

import colorsys
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from yacs.config import CfgNode

from dassl.config import get_cfg_default

# (folder, class name) pairs of the real Caltech101, which renames some folders in its split.
CALTECH_CLASSES = [
    ("Faces", "face"),
    ("Leopards", "leopard"),
    ("Motorbikes", "motorbike"),
    ("accordion", "accordion"),
    ("airplanes", "airplane"),
    ("anchor", "anchor"),
    ("ant", "ant"),
    ("barrel", "barrel"),
    ("bass", "bass"),
    ("beaver", "beaver"),
    ("ceiling_fan", "ceiling_fan"),
    ("chandelier", "chandelier"),
]


def write_image(
    path: str | Path, seed: int, size: int = 32, color: tuple[int, int, int] | None = None
) -> None:
    """Write a ``size`` x ``size`` RGB image: a disc of ``color`` at a random place on gray noise.

    The image is a function of the arguments alone. Without a color, the seed chooses one.
    """
    rng = np.random.default_rng(seed)
    rgb = color if color is not None else rng.integers(0, 256, 3)
    pixels = rng.integers(96, 160, (size, size, 3))
    center = rng.uniform(0.35, 0.65, 2) * size
    rows, columns = np.mgrid[:size, :size]
    disc = (rows - center[0]) ** 2 + (columns - center[1]) ** 2 < (0.35 * size) ** 2
    pixels[disc] = rgb
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def class_color(label: int, classes: int) -> tuple[int, int, int]:
    """Return one of ``classes`` evenly spaced hues, so that classes differ by color."""
    red, green, blue = colorsys.hsv_to_rgb(label / classes, 1.0, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def caltech101(
    root: str | Path,
    classes: int = 6,
    train: int = 8,
    val: int = 4,
    test: int = 4,
    size: int = 32,
) -> list[str]:
    """Create ``root``/caltech-101 in CoOp's layout, and return its class names by label.

    ``train``, ``val`` and ``test`` count the images per class.
    """
    folder = Path(root) / "caltech-101"
    split: dict[str, list[tuple[str, int, str]]] = {"train": [], "val": [], "test": []}
    for label, (category, name) in enumerate(CALTECH_CLASSES[:classes]):
        parts = ["train"] * train + ["val"] * val + ["test"] * test
        for number, part in enumerate(parts, start=1):
            impath = f"{category}/image_{number:04d}.jpg"
            write_image(
                folder / "101_ObjectCategories" / impath,
                seed=1000 * label + number,
                size=size,
                color=class_color(label, classes),
            )
            split[part].append((impath, label, name))
    (folder / "split_zhou_Caltech101.json").write_text(json.dumps(split))
    return [name for _, name in CALTECH_CLASSES[:classes]]


def data_config(root: str | Path, name: str, options: dict[str, Any] | None = None) -> CfgNode:
    """Return a config for the dataset ``name`` below ``root``, small enough for a test.

    ``options`` contains further keys, such as {"DATASET.NUM_SHOTS": 2}.
    """
    cfg = get_cfg_default()
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"
    settings = {
        "DATASET.ROOT": str(root),
        "DATASET.NAME": name,
        "SEED": 1,
        "INPUT.SIZE": (32, 32),
        "INPUT.TRANSFORMS": ("normalize",),
        "DATALOADER.NUM_WORKERS": 0,
        "DATALOADER.TRAIN_X.BATCH_SIZE": 4,
        "DATALOADER.TEST.BATCH_SIZE": 4,
        **(options or {}),
    }
    cfg.merge_from_list([part for setting in settings.items() for part in setting])
    return cfg
