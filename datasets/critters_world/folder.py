"""Render a dataset of Critters to files: class folders of PNG images and a split file.

    FOLDER/world.json              the Plan and the version of the world
    FOLDER/images/forktail_dax/train_0001.png, ...
    FOLDER/split_critters.json     {"train": [[path, label, class name], ...], "val", "test"}

Image i of a class in a split depends only on (seed, species, split, i) and the look, so images can
be rendered in any order by any number of workers. Files are written atomically, and rendering
resumes with the missing ones. FOLDER/drawing.lock keeps other processes waiting meanwhile.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from msgspec import to_builtins
from PIL import Image
from tqdm import tqdm

from dassl.utils import UsageError, atomic_path
from dassl.utils.schema import Count, Record, read_checked

from ..locks import remove_temporaries, writing
from ..text import shown
from .looks import LOOKS
from .renderer import render
from .species import BACKGROUNDS, SPECIES
from .workers import run_jobs

# Increased whenever the same numbers render to a different image, so that folders of older images
# are detected.
WORLD_VERSION = 1

SPLIT_FILE = "split_critters.json"
_SPLITS = ("train", "val", "test")  # the index is part of the random seed
_CHUNK = 40  # images per job


@dataclass(frozen=True)
class Plan:
    """Contents of a dataset: species (indices into SPECIES) are its classes in label order.

    `shift` is a key of LOOKS. A split with 0 images per class does not exist.
    """

    species: tuple[int, ...]
    shift: str
    train: int = 40  # images per class
    val: int = 20
    test: int = 100
    seed: int = 2026
    size: int = 64

    def images(self) -> Iterator[tuple[str, int, int]]:
        """Yield every image of the dataset as (split, label, index)."""
        for split in _SPLITS:
            for label in range(len(self.species)):
                for index in range(getattr(self, split)):
                    yield split, label, index

    def draw(self, split: str, label: int, index: int) -> np.ndarray:
        """Render one image (size, size, 3) as uint8."""
        species = self.species[label]
        rng = np.random.RandomState([self.seed, species, _SPLITS.index(split), index])
        background = BACKGROUNDS[rng.randint(len(BACKGROUNDS))]
        look = LOOKS[self.shift]
        return render(SPECIES[species].creature, background, look, rng, self.size).image

    def classname(self, label: int) -> str:
        return SPECIES[self.species[label]].name

    def path(self, split: str, label: int, index: int) -> str:
        """Return the path of an image below the image folder, as in split files."""
        return f"{self.classname(label).replace(' ', '_')}/{split}_{index + 1:04d}.png"

    def split(self) -> dict[str, list[tuple[str, int, str]]]:
        """Return the content of the split file."""
        split: dict[str, list[tuple[str, int, str]]] = {name: [] for name in _SPLITS}
        for name, label, index in self.images():
            split[name].append((self.path(name, label, index), label, self.classname(label)))
        return split

    def describe(self) -> dict[str, object]:
        """Return the content of world.json."""
        return json.loads(json.dumps({"world": WORLD_VERSION, **asdict(self)}))


class _World(Record):
    """The content of world.json: the version of the world, and a Plan."""

    world: Count
    species: list[Count]
    shift: str
    train: Count
    val: Count
    test: Count
    seed: Count
    size: Count


def prepare_folder(plan: Plan, folder: Path, workers: int = 2) -> None:
    """Render the missing images of a dataset's folder, and write its split file.

    One process at a time does so; others wait for it.

    Raises:
        UsageError: the folder was rendered with another plan or version of the world.
    """
    _check_world(plan, folder)
    if _is_complete(plan, folder):
        return
    with writing(folder / "drawing.lock", "draws the images of Critters"):
        _check_world(plan, folder)
        images = folder / "images"
        remove_temporaries(folder, *images.glob("*"))
        marker = folder / "world.json"
        if not marker.exists():
            _write_json(marker, plan.describe())
        missing = _missing(plan, images)
        if missing:
            print(f"Rendering {len(missing):,} images of Critters to {images}")
            _render_all(plan, images, missing, workers)
        if not (folder / SPLIT_FILE).exists():
            _write_json(folder / SPLIT_FILE, plan.split())


def _is_complete(plan: Plan, folder: Path) -> bool:
    files = (folder / "world.json", folder / SPLIT_FILE)
    return all(file.exists() for file in files) and not _missing(plan, folder / "images")


def _missing(plan: Plan, images: Path) -> list[tuple[str, int, int]]:
    existing = {f"{path.parent.name}/{path.name}" for path in images.glob("*/*.png")}
    return [image for image in plan.images() if plan.path(*image) not in existing]


def _write_json(file: Path, content: object) -> None:
    with atomic_path(file) as path:
        path.write_text(json.dumps(content))


def _check_world(plan: Plan, folder: Path) -> None:
    """Raise a UsageError if there are images of another world."""
    marker, expected = folder / "world.json", plan.describe()
    remedy = "delete that folder to render it again, or set DATASET.ROOT (--root) to another one"
    if not marker.exists():
        if any((folder / "images").glob("*/*.png")):
            raise UsageError(f"the images in {folder} have no {marker.name}: {remedy}")
        return
    found = to_builtins(read_checked(marker, _World, remedy))
    differing = [
        f"{key} {shown(str(found[key]))} there, {shown(str(value))} here"
        for key, value in expected.items()
        if found[key] != value
    ]
    if differing:
        raise UsageError(
            f"the images in {folder} were rendered with other settings ({'; '.join(differing)}): "
            f"{remedy}"
        )


def _render_all(
    plan: Plan, images: Path, missing: list[tuple[str, int, int]], workers: int
) -> None:
    jobs = [(plan, images, missing[i : i + _CHUNK]) for i in range(0, len(missing), _CHUNK)]
    with tqdm(total=len(missing), unit="image", desc="rendering", dynamic_ncols=True) as bar:
        if workers == 1:
            for count in map(_render_some, jobs):
                bar.update(count)
            return
        for count in run_jobs(_render_some, jobs, workers):
            bar.update(count)


def _render_some(job: tuple[Plan, Path, list[tuple[str, int, int]]]) -> int:
    """Render and save some images; return their number."""
    plan, images, chunk = job
    for image in chunk:
        with atomic_path(images / plan.path(*image)) as path:
            Image.fromarray(plan.draw(*image)).save(path)
    return len(chunk)
