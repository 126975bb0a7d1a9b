"""The shipped tiny CLIP is what its JSON says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

import clip
from datasets.critters import Critters
from datasets.critters_world import STYLES, render
from scripts.critters import pretrain
from scripts.critters.captions import Scene
from scripts.critters.pool import random_scene
from scripts.critters.zeroshot import accuracy_by_style, normalise

ASSETS = Path(__file__).parents[2] / "assets"


def test_size_and_recipe():
    assert (ASSETS / "critters-vit-t.safetensors").stat().st_size <= 2_000_000
    recipe = json.loads((ASSETS / "critters-vit-t.json").read_text())
    # The script's defaults are the shipped model's recipe.
    assert recipe["recipe"] == pretrain.parse([])[1]
    assert recipe["samples"] == recipe["recipe"]["steps"] * recipe["recipe"]["batch"]


@torch.no_grad()
def test_zero_shot_accuracy_is_what_the_recipe_says():
    """On 150 fresh pictures a style, of another seed than the pool's: three standard errors."""
    recipe = json.loads((ASSETS / "critters-vit-t.json").read_text())
    model, _ = clip.load("critters-vit-t", device="cpu")
    images, labels = [], []
    for i in range(300):
        rng = np.random.RandomState([77, i])
        scene = random_scene(rng)
        if scene.species is None:
            continue
        for style in ("photo", "sketch"):
            scene = Scene(scene.species, scene.creature, scene.background, style)
            images.append(render(scene.creature, scene.background, STYLES[style], rng).image)
            labels.append(scene.labels())
    fresh = accuracy_by_style(
        model.encode_image, model.encode_text, np.stack(images), np.array(labels)
    )
    for style in ("photo", "sketch"):
        claimed = recipe["zero_shot_percent"][style]
        error = 100 * (claimed / 100 * (1 - claimed / 100) / (len(images) / 2)) ** 0.5
        assert abs(fresh[style] - claimed) <= 3 * error + 1, style


@torch.no_grad()
def test_the_data_set_is_recognised_in_part():
    """Base and new classes, validation images: well above chance (5.6 %), and not perfect."""
    model, _ = clip.load("critters-vit-t", device="cpu")
    plan = Critters.plan
    for half in (range(18), range(18, 36)):
        images = np.stack([plan.draw("val", label, i) for label in half for i in range(4)])
        prompts = [f"a photo of a {plan.classname(label)}." for label in half]
        text = torch.nn.functional.normalize(model.encode_text(clip.tokenize(prompts)), dim=-1)
        guesses = (model.encode_image(normalise(images)) @ text.t()).argmax(-1).numpy()
        accuracy = (guesses == np.repeat(np.arange(18), 4)).mean()
        assert 0.35 < accuracy < 0.97
