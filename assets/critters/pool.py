"""The pictures and captions of pre-training: rendered once into a folder, read many times.

Picture i depends on (seed, i) alone. A folder holds four arrays of N rows and pool.json, written
last, which says how it was made:
    images.npy    (N, 64, 64, 3) uint8
    labels.npy    (N, 8) int8: the facts of captions.FACTS
    parts.npy     (N, 3, 8, 8) int8: per patch, the genus (plus 1), ornament and tail seen in it
    tokens.npy    (N, K, L) int32: K captions, token ids of CLIP, padded with 0 like clip.tokenize
    mentions.npy  (N, K, 8) bool: the facts that a caption mentions
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

import clip
from assets.critters.captions import FACTS, Scene, caption
from dassl.utils import UsageError, atomic_path
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

SIZE, GRID = 64, 8  # pixels and patches along an edge
CAPTIONS = 4  # captions a picture
LENGTH = 32  # tokens of a caption at most
_CHUNK = 500  # pictures a job
_SPECIES_SHARE = 0.55  # of the pictures show a species; the others any combination of attributes
_OWN_COLOR_SHARE = 0.85  # of a species' individuals have the species' color
_STYLE_SHARES = (0.55, 0.12, 0.11, 0.11, 0.11)
_CAPTION_STREAM = 1  # seeds of captions are apart from those of pictures
_ARRAYS = ("images", "labels", "parts", "tokens", "mentions")


@dataclass(frozen=True, eq=False)
class Pool:
    """The arrays of a pool folder (see above); the pictures stay on disk until they are read."""

    images: np.ndarray
    labels: np.ndarray
    parts: np.ndarray
    tokens: np.ndarray
    mentions: np.ndarray

    @property
    def held_out(self) -> range:
        """Rows for evaluation: the last fifth, 4000 at most."""
        return range(len(self.images) - min(4000, len(self.images) // 5), len(self.images))

    @property
    def training(self) -> range:
        """Rows to train on."""
        return range(self.held_out.start)


def random_scene(rng: np.random.RandomState) -> Scene:
    """Draw what a picture of pre-training shows."""
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


def patch_parts(picture: Rendering, labels: list[int]) -> np.ndarray:
    """Say what the patches show: (3, GRID, GRID), 0 where there is nothing of the kind."""

    def share(mask: np.ndarray) -> np.ndarray:
        return mask.reshape(GRID, SIZE // GRID, GRID, SIZE // GRID).mean((1, 3))

    _, genus, ornament, tail, *_ = labels
    return np.stack(
        [
            np.where(share(picture.body) > 0.25, genus + 1, 0),
            np.where(share(picture.ornament) > 0.08, ornament, 0),
            np.where(share(picture.tail) > 0.08, tail, 0),
        ]
    )


def _chunk(job: tuple[int, int, int]) -> tuple[int, list[np.ndarray], list[str]]:
    """Make pictures start..stop of a seed: all arrays but the tokens, and the captions' texts."""
    seed, start, stop = job
    images, labels, parts, mentions, texts = [], [], [], [], []
    for index in range(start, stop):
        rng = np.random.RandomState([seed, index])
        scene = random_scene(rng)
        picture = render(scene.creature, scene.background, STYLES[scene.style], rng, SIZE)
        images.append(picture.image)
        labels.append(scene.labels())
        parts.append(patch_parts(picture, labels[-1]))
        words = np.random.RandomState([seed, index, _CAPTION_STREAM])
        for _ in range(CAPTIONS):
            text, mentioned = caption(scene, words)
            texts.append(text)
            mentions.append([fact in mentioned for fact in FACTS])
    flags = np.array(mentions).reshape(len(images), CAPTIONS, len(FACTS))
    return start, [np.array(images), np.array(labels), np.array(parts), flags], texts


def make_pool(folder: Path, images: int, seed: int, workers: int = 2) -> None:
    """Render a pool into a folder; one that is there already with these settings is kept.

    Raises:
        UsageError: the folder holds a pool of other settings.
    """
    settings = {"world": WORLD_VERSION, "images": images, "seed": seed, "captions": CAPTIONS}
    marker = folder / "pool.json"
    if marker.exists():
        found = json.loads(marker.read_text())
        if found != settings:
            raise UsageError(
                f"{folder} holds a pool made with {found}, not {settings}: "
                "delete it, or name another folder with --pool"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {
        "images": np.empty((images, SIZE, SIZE, 3), np.uint8),
        "labels": np.empty((images, len(FACTS)), np.int8),
        "parts": np.empty((images, 3, GRID, GRID), np.int8),
        "tokens": np.empty((images, CAPTIONS, LENGTH), np.int32),
        "mentions": np.empty((images, CAPTIONS, len(FACTS)), bool),
    }
    for start, (pictures, labels, parts, mentions), texts in _chunks(images, seed, workers):
        rows = slice(start, start + len(pictures))
        arrays["images"][rows], arrays["labels"][rows] = pictures, labels
        arrays["parts"][rows], arrays["mentions"][rows] = parts, mentions
        tokens = clip.tokenize(texts, context_length=LENGTH).numpy()
        arrays["tokens"][rows] = tokens.reshape(len(pictures), CAPTIONS, LENGTH)
    for name, array in arrays.items():
        with atomic_path(folder / f"{name}.npy") as path, open(path, "wb") as file:
            np.save(file, array)
    with atomic_path(marker) as path:
        path.write_text(json.dumps(settings))


def _chunks(
    images: int, seed: int, workers: int
) -> Iterator[tuple[int, list[np.ndarray], list[str]]]:
    jobs = [(seed, i, min(i + _CHUNK, images)) for i in range(0, images, _CHUNK)]
    with (
        get_context().Pool(workers) as processes,
        tqdm(total=images, desc="rendering", unit="image", dynamic_ncols=True) as bar,
    ):
        for chunk in processes.imap_unordered(_chunk, jobs):
            yield chunk
            bar.update(len(chunk[1][0]))


def open_pool(folder: Path) -> Pool:
    """Open a finished pool; its arrays are mapped, not read."""
    return Pool(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS})
