"""Draws a dataset of Critters as files: class folders of PNG images and a split file.

    FOLDER/world.json              what was drawn: a Plan and the world's version
    FOLDER/images/forktail_dax/train_0001.png, ...
    FOLDER/split_critters.json     {"train": [[path, label, class name], ...], "val", "test"}

Image i of a class in a split depends on (seed, species, split, i) and the look alone: any image can
be drawn without the others, in any order, by any number of processes. Files appear whole or not at
all, so a folder that was left half-made is finished by drawing what is missing.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from dassl.utils import UsageError, atomic_path
from datasets.critters_world.looks import LOOKS
from datasets.critters_world.renderer import render
from datasets.critters_world.species import BACKGROUNDS, SPECIES

# Raised whenever a picture made from the same numbers comes out different: folders of images that
# an older world has made are then told apart from new ones.
WORLD_VERSION = 1

SPLIT_FILE = "split_critters.json"
_SPLITS = ("train", "val", "test")  # their places number the streams of random numbers
_CHUNK = 40  # images a job


@dataclass(frozen=True)
class Plan:
    """What a dataset holds: species (indices into SPECIES) are its classes, in label order.

    `shift` is a key of LOOKS. A split of 0 images a class is one that the dataset does not have.
    """

    species: tuple[int, ...]
    shift: str
    train: int = 40  # images a class
    val: int = 20
    test: int = 100
    seed: int = 2026
    size: int = 64

    def images(self) -> Iterator[tuple[str, int, int]]:
        """Every image of the dataset as (split, label, index)."""
        for split in _SPLITS:
            for label in range(len(self.species)):
                for index in range(getattr(self, split)):
                    yield split, label, index

    def draw(self, split: str, label: int, index: int) -> np.ndarray:
        """Draw one image, (size, size, 3) uint8."""
        species = self.species[label]
        rng = np.random.RandomState([self.seed, species, _SPLITS.index(split), index])
        background = BACKGROUNDS[rng.randint(len(BACKGROUNDS))]
        creature, look = SPECIES[species].creature, LOOKS[self.shift]
        return render(creature, background, look, rng, self.size).image

    def classname(self, label: int) -> str:
        return SPECIES[self.species[label]].name

    def path(self, split: str, label: int, index: int) -> str:
        """The image's path below the image folder, with the slashes of split files."""
        return f"{self.classname(label).replace(' ', '_')}/{split}_{index + 1:04d}.png"

    def describe(self) -> dict[str, object]:
        """The content of world.json."""
        return json.loads(json.dumps({"world": WORLD_VERSION, **asdict(self)}))


def prepare_folder(plan: Plan, folder: Path, workers: int = 2) -> None:
    """Make a dataset's folder, or what is missing of it; nothing happens to a whole one.

    Raises:
        UsageError: the folder was made by another plan or another version of the world.
    """
    _check_world(plan, folder)
    images = folder / "images"
    there = {f"{path.parent.name}/{path.name}" for path in images.glob("*/*.png")}
    missing = [image for image in plan.images() if plan.path(*image) not in there]
    if missing:
        print(f"Drawing {len(missing):,} images of Critters into {images}")
        _draw_all(plan, images, missing, workers)
    split_file = folder / SPLIT_FILE
    if not split_file.exists():
        split: dict[str, list[tuple[str, int, str]]] = {name: [] for name in _SPLITS}
        for name, label, index in plan.images():
            split[name].append((plan.path(name, label, index), label, plan.classname(label)))
        with atomic_path(split_file) as path:
            path.write_text(json.dumps(split))


def _check_world(plan: Plan, folder: Path) -> None:
    """Refuse images of another world; write down which world this folder shows."""
    marker, wanted = folder / "world.json", plan.describe()
    if marker.exists():
        try:
            found = json.loads(marker.read_text())
        except ValueError:
            found = "unreadable"
        if found == wanted:
            return
        differing = (
            [
                f"{key} {found.get(key)} there, {wanted[key]} here"
                for key in wanted
                if found.get(key) != wanted[key]
            ]
            if isinstance(found, dict)
            else ["world.json cannot be read"]
        )
        raise UsageError(
            f"the images in {folder} were drawn with other settings ({'; '.join(differing)}): "
            "delete that folder, and it is drawn anew, or set DATASET.ROOT (--root) to another one"
        )
    if any((folder / "images").glob("*/*")):
        raise UsageError(
            f"{folder} has images but no world.json that says how they were drawn: delete that "
            "folder, and it is drawn anew, or set DATASET.ROOT (--root) to another one"
        )
    with atomic_path(marker) as path:
        path.write_text(json.dumps(wanted))


def _draw_all(plan: Plan, images: Path, missing: list[tuple[str, int, int]], workers: int) -> None:
    jobs = [(plan, images, missing[i : i + _CHUNK]) for i in range(0, len(missing), _CHUNK)]
    with tqdm(total=len(missing), unit="image", desc="drawing", dynamic_ncols=True) as bar:
        if workers == 1:
            for job in jobs:
                bar.update(_draw_some(job))
            return
        with multiprocessing.Pool(workers) as processes:
            for count in processes.imap_unordered(_draw_some, jobs):
                bar.update(count)


def _draw_some(job: tuple[Plan, Path, list[tuple[str, int, int]]]) -> int:
    """Draw and save some images; returns their number."""
    plan, images, wanted = job
    for image in wanted:
        with atomic_path(images / plan.path(*image)) as path:
            Image.fromarray(plan.draw(*image)).save(path)
    return len(wanted)
