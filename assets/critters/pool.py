"""Images and captions for pre-training, rendered once into a folder.

Image i depends only on (seed, i). A folder contains one array of N rows for each field of `Pool`
and, written last, pool.json with the settings.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

import clip
from assets.critters.captions import FACTS, Scene, caption
from dassl.utils import UsageError, atomic_path, read_json, write_json
from datasets.critters_world import (
    BACKGROUNDS,
    GENERA,
    SPECIES,
    STYLES,
    Rendering,
    random_creature,
    render,
)
from datasets.critters_world.folder import WORLD_VERSION
from datasets.critters_world.workers import run_jobs

SIZE, GRID = 64, 8  # pixels and patches along an edge
CAPTIONS = 4  # per image
LENGTH = 32  # maximum number of tokens of a caption
_CHUNK = 500  # images per job
_SPECIES_SHARE = 0.55  # of the images show a species; the others any combination of attributes
_OWN_COLOR_SHARE = 0.85  # of a species' individuals have the species' color
_STYLE_SHARES = (0.55, 0.12, 0.11, 0.11, 0.11)
_CAPTION_STREAM = 1  # separates the random streams of captions from those of images


@dataclass(frozen=True, eq=False)
class Pool:
    """Arrays of a pool folder, memory-mapped."""

    images: np.ndarray  # (N, 64, 64, 3) uint8
    labels: np.ndarray  # (N, 8) int8, indices of captions.FACTS
    parts: np.ndarray  # (N, 3, 8, 8) int8, the genus (plus 1), ornament and tail seen in each patch
    tokens: np.ndarray  # (N, K, L) int32, clip.tokenize's ids of K captions
    mentions: np.ndarray  # (N, K, 8) bool, the facts that each caption mentions

    @property
    def held_out(self) -> range:
        """Rows for evaluation: the last fifth, at most 4000."""
        return range(len(self.images) - min(4000, len(self.images) // 5), len(self.images))

    @property
    def training(self) -> range:
        """Rows for training."""
        return range(self.held_out.start)


def random_scene(rng: np.random.RandomState) -> Scene:
    """Return a random scene from the pre-training distribution."""
    species = None
    if rng.rand() < _SPECIES_SHARE:
        species = rng.randint(len(SPECIES))
        creature = SPECIES[species].creature
        other = random_creature(rng, creature.genus)
        if rng.rand() >= _OWN_COLOR_SHARE:
            creature = replace(creature, color=other.color)
    else:
        creature = random_creature(rng, GENERA[rng.randint(len(GENERA))])
    background = BACKGROUNDS[rng.randint(len(BACKGROUNDS))]
    style = list(STYLES)[rng.choice(len(STYLES), p=_STYLE_SHARES)]
    return Scene(species, creature, background, style)


def patch_parts(rendering: Rendering, labels: list[int]) -> np.ndarray:
    """Return the genus (plus 1), ornament and tail visible in each patch: (3, GRID, GRID)."""

    def share(mask: np.ndarray) -> np.ndarray:
        return mask.reshape(GRID, SIZE // GRID, GRID, SIZE // GRID).mean((1, 3))

    _, genus, ornament, tail, *_ = labels
    return np.stack(
        [
            np.where(share(rendering.body) > 0.25, genus + 1, 0),
            np.where(share(rendering.ornament) > 0.08, ornament, 0),
            np.where(share(rendering.tail) > 0.08, tail, 0),
        ]
    )


def _chunk(job: tuple[int, int, int]) -> tuple[int, dict[str, np.ndarray], list[str]]:
    """Render images start..stop of a seed; return start, all arrays but tokens, and captions."""
    seed, start, stop = job
    images, labels, parts, mentions, texts = [], [], [], [], []
    for index in range(start, stop):
        rng = np.random.RandomState([seed, index])
        scene = random_scene(rng)
        rendering = render(scene.creature, scene.background, STYLES[scene.style], rng, SIZE)
        images.append(rendering.image)
        labels.append(scene.labels())
        parts.append(patch_parts(rendering, labels[-1]))
        rng = np.random.RandomState([seed, index, _CAPTION_STREAM])
        captions = [caption(scene, rng) for _ in range(CAPTIONS)]
        texts += [text for text, _ in captions]
        mentions.append([[fact in facts for fact in FACTS] for _, facts in captions])
    arrays = {"images": images, "labels": labels, "parts": parts, "mentions": mentions}
    return start, {name: np.array(rows) for name, rows in arrays.items()}, texts


def make_pool(folder: Path, images: int, seed: int, workers: int = 2) -> None:
    """Render a pool into a folder unless it has one; raise a UsageError if its settings differ."""
    settings = {"world": WORLD_VERSION, "images": images, "seed": seed, "captions": CAPTIONS}
    marker = folder / "pool.json"
    if marker.exists():
        if (found := read_json(marker)) != settings:
            raise UsageError(
                f"{folder} contains a pool with the settings {found}, not {settings}: "
                "delete it, or choose another folder with --pool"
            )
        return
    arrays: dict[str, np.ndarray] = {
        "images": np.empty((images, SIZE, SIZE, 3), np.uint8),
        "labels": np.empty((images, len(FACTS)), np.int8),
        "parts": np.empty((images, 3, GRID, GRID), np.int8),
        "tokens": np.empty((images, CAPTIONS, LENGTH), np.int32),
        "mentions": np.empty((images, CAPTIONS, len(FACTS)), bool),
    }
    jobs = [(seed, i, min(i + _CHUNK, images)) for i in range(0, images, _CHUNK)]
    with tqdm(total=images, desc="rendering", unit="image", dynamic_ncols=True) as bar:
        for start, chunk, texts in run_jobs(_chunk, jobs, workers):
            tokens = clip.tokenize(texts, context_length=LENGTH).numpy()
            chunk["tokens"] = tokens.reshape(-1, CAPTIONS, LENGTH)
            for name, rows in chunk.items():
                arrays[name][start : start + len(rows)] = rows
            bar.update(len(tokens) // CAPTIONS)
    for name, array in arrays.items():
        with atomic_path(folder / f"{name}.npy") as path, open(path, "wb") as file:
            np.save(file, array)
    write_json(settings, marker)


def open_pool(folder: Path) -> Pool:
    """Open a finished pool."""
    names = [field.name for field in fields(Pool)]
    return Pool(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names})
