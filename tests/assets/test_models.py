"""The bundled CLIP models match their JSON records."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import clip
from assets.critters import pretrain
from assets.critters.captions import Scene
from assets.critters.pool import random_scene
from assets.critters.zeroshot import accuracy_by_style, normalize
from datasets.critters import Critters
from datasets.critters_world import STYLES, render

ASSETS = Path(__file__).parents[2] / "assets" / "critters"
MODELS = sorted(path.stem for path in ASSETS.glob("*.safetensors"))
LIMITS = {"critters-vit-t": 2_000_000, "critters-vit-s": 4_000_000}  # bytes


@pytest.mark.parametrize("name", MODELS)
def test_size_and_recipe(name):
    assert (ASSETS / f"{name}.safetensors").stat().st_size <= LIMITS[name]
    recipe = json.loads((ASSETS / f"{name}.json").read_text())
    assert recipe["name"] == name
    # One recorded command per stage; the script's defaults are those of critters-vit-t.
    commands = recipe["command"].split(" && ")
    stages = recipe.get("stages", [recipe["recipe"]["steps"]])
    for command, steps in zip(commands, stages, strict=True):
        python, module, script, *words = command.split()
        assert [python, module, script] == ["python", "-m", "assets.critters.pretrain"]
        args, settings = pretrain.parse(words)
        assert (args.name, settings) == (name, recipe["recipe"] | {"steps": steps})
    assert (settings == pretrain.parse([])[1]) == (name == "critters-vit-t")
    assert recipe["samples"] == recipe["recipe"]["steps"] * recipe["recipe"]["batch"]


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_zero_shot_accuracy_matches_the_recipe(name):
    """Within three standard errors, on new images of a seed other than the pool's."""
    recipe = json.loads((ASSETS / f"{name}.json").read_text())
    model, _ = clip.load(name, device="cpu")
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


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_dataset_accuracy_is_above_chance_and_not_perfect(name):
    """On validation images of base and new classes; chance is 5.6 %."""
    model, _ = clip.load(name, device="cpu")
    plan = Critters.plan
    for half in (range(18), range(18, 36)):
        images = np.stack([plan.draw("val", label, i) for label in half for i in range(4)])
        prompts = [f"a photo of a {plan.classname(label)}." for label in half]
        text = torch.nn.functional.normalize(model.encode_text(clip.tokenize(prompts)), dim=-1)
        guesses = (model.encode_image(normalize(images)) @ text.t()).argmax(-1).numpy()
        accuracy = (guesses == np.repeat(np.arange(18), 4)).mean()
        assert 0.35 < accuracy < 0.97
