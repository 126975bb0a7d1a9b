"""Compare KgCoOp with loops over images and classes."""

import pytest
import torch

from clip import clip
from tests.toy import toy_clip
from tests.trainers import naive
from tests.trainers.toy_runs import ToyWorld
from trainers.kgcoop import TEMPLATES, KgCoOpLearner
from trainers.prompting.contexts import ContextPrompts
from trainers.refiner import TextRefiner
from trainers.settings import RefinerSettings
from trainers.trainer import RefinedCLIP

EXACT = {"rtol": 0, "atol": 1e-9}
NAMES = ["cat", "wind_turbine", "very large dog"]
TEMPLATE = "a photo of a {}, a type of pet."


@pytest.fixture(scope="module")
def clip_model():
    return toy_clip().double().requires_grad_(False)


def build(clip_model, weight, words="a photo of a"):
    prompts = ContextPrompts(clip_model, NAMES, 3, words).double()
    with torch.no_grad():
        prompts.ctx.add_(torch.randn_like(prompts.ctx) * 0.1)
    return KgCoOpLearner(clip_model, prompts, TEMPLATE, NAMES, weight)


def naive_distance(clip_model, text):
    """Return 1 minus the mean cosine of text features (C, d) to the template's, class by class."""
    total = 0
    for name, row in zip(NAMES, text, strict=True):
        ids = clip.tokenize(TEMPLATE.format(name.replace("_", " ")))
        frozen = clip_model.encode_text(ids)[0]
        total = total + row @ frozen / (row.norm() * frozen.norm())
    return 1 - total / len(NAMES)


@pytest.mark.parametrize("words", ["a photo of a", ""])
@pytest.mark.parametrize("weight", [8.0, 0.5])
def test_losses_and_gradients_equal_loops(clip_model, weight, words):
    learner = build(clip_model, weight, words)
    image = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    label = torch.tensor([2, 0, 1])
    logits, losses = RefinedCLIP(learner).training_step({"img": image, "label": label})

    ctx, context = learner.prompts.ctx, words or "X X X"
    text = torch.stack([naive.class_feature(clip_model, name, context, ctx) for name in NAMES])
    rows = []
    for single in image:
        g = naive.image_tokens(clip_model.visual, single)[0][0]
        rows.append([clip_model.logit_scale.exp() * g @ t / g.norm() for t in text])
    expected = torch.stack([torch.stack(row) for row in rows])
    torch.testing.assert_close(logits, expected, **EXACT)
    ce = -sum(row[y] - row.exp().sum().log() for row, y in zip(expected, label, strict=True)) / len(
        image
    )
    wanted = {"ce": ce, "distance": weight * naive_distance(clip_model, text)}
    assert losses.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(losses[name], value, **EXACT)
        ours, theirs = (
            torch.autograd.grad(x, ctx, retain_graph=True)[0] for x in (losses[name], value)
        )
        torch.testing.assert_close(ours, theirs, **EXACT)
        assert ours.abs().sum() > 0


def test_the_distance_is_that_of_the_text_before_refinement(clip_model):
    learner = build(clip_model, 8.0)
    refiner = TextRefiner(32, 32).double()
    model = RefinedCLIP(learner, refiner, RefinerSettings())
    batch = {"img": torch.randn(2, 3, 32, 32, dtype=torch.float64), "label": torch.tensor([0, 1])}
    losses = model.training_step(batch).losses
    text = learner.encode_text()
    assert list(losses) == ["ce", "semantic", "regularizer", "distance"]
    torch.testing.assert_close(losses["distance"], 8 * naive_distance(clip_model, text), **EXACT)


def test_weight_0_is_coop(clip_model):
    batch = {"img": torch.randn(2, 3, 32, 32, dtype=torch.float64), "label": torch.tensor([0, 1])}
    assert list(RefinedCLIP(build(clip_model, 0.0)).training_step(batch).losses) == ["ce"]


def test_each_data_set_has_its_own_prompt(tmp_path):
    assert TEMPLATES["DescribableTextures"] == "a photo of a {}, a type of texture."
    assert TEMPLATES["EuroSAT"] == "a centered satellite photo of {}."
    world = ToyWorld(tmp_path)
    assert world.build("KgCoOp", tmp_path / "run").model.learner.template == "a photo of a {}."


def test_the_start_is_the_distance_between_two_prompts(tmp_path):
    """With CTX_INIT "a photo of a" the learned prompt starts as the hand-written one."""
    learner = ToyWorld(tmp_path).build("KgCoOp", tmp_path / "run").model.learner
    text = learner.encode_text()
    torch.testing.assert_close(text, learner.frozen_text, rtol=0, atol=1e-6)
