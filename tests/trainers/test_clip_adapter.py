"""Compare CLIP-Adapter with loops over images, classes and units of the adapter."""

import pytest
import torch

from clip import clip
from tests.toy import toy_clip
from tests.trainers import naive
from tests.trainers.toy_runs import ToyWorld
from trainers.clip_adapter import CLIPAdapterLearner
from trainers.refiner import TextRefiner
from trainers.settings import RefinerSettings, SettingsError
from trainers.trainer import RefinedCLIP

EXACT = {"rtol": 0, "atol": 1e-9}
NAMES = ["cat", "wind_turbine", "very large dog"]
TEMPLATE = "a photo of a {}, a type of pet."


@pytest.fixture(scope="module")
def clip_model():
    return toy_clip().double().requires_grad_(False)


def build(clip_model, reduction=4, ratio=0.2):
    torch.manual_seed(0)
    return CLIPAdapterLearner(clip_model, TEMPLATE, NAMES, reduction, ratio).double()


def naive_feature(pooled, first, second, ratio):
    """Return the adapted, normalized feature of one image, number by number."""
    hidden = [max(sum(w * x for w, x in zip(row, pooled, strict=True)), 0) for row in first]
    output = [max(sum(w * x for w, x in zip(row, hidden, strict=True)), 0) for row in second]
    mixed = [ratio * a + (1 - ratio) * x for a, x in zip(output, pooled, strict=True)]
    length = sum(x * x for x in mixed) ** 0.5
    return torch.stack([x / length for x in mixed])


def naive_text(clip_model):
    rows = []
    for name in NAMES:
        row = clip_model.encode_text(clip.tokenize(TEMPLATE.format(name.replace("_", " "))))[0]
        rows.append(row / row.norm())
    return torch.stack(rows)


@pytest.mark.parametrize(("reduction", "ratio"), [(4, 0.2), (5, 0.7)])
def test_logits_loss_and_gradient_equal_loops(clip_model, reduction, ratio):
    learner = build(clip_model, reduction, ratio)
    weights = list(learner.adapter.parameters())
    assert [tuple(w.shape) for w in weights] == [(32 // reduction, 32), (32, 32 // reduction)]
    image = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    label = torch.tensor([2, 0])
    model = RefinedCLIP(learner)
    logits, losses = model.training_step({"img": image, "label": label})

    text, rows = naive_text(clip_model), []
    for single in image:
        pooled = naive.image_tokens(clip_model.visual, single)[0][0]
        g = naive_feature(pooled, *weights, ratio)
        rows.append(torch.stack([clip_model.logit_scale.exp() * g @ t for t in text]))
    torch.testing.assert_close(logits, torch.stack(rows), **EXACT)
    torch.testing.assert_close(model(image), torch.stack(rows), **EXACT)
    ce = -sum(row[y] - row.exp().sum().log() for row, y in zip(rows, label, strict=True)) / 2
    assert list(losses) == ["ce"]
    torch.testing.assert_close(losses["ce"], ce, **EXACT)
    found = (torch.autograd.grad(x, weights) for x in (losses["ce"], ce))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)
        assert ours.abs().sum() > 0


def test_ratio_0_is_zero_shot_clip(tmp_path):
    world = ToyWorld(tmp_path)
    opts = ("TRAINER.CLIPADAPTER.RATIO", 0.0)
    plain = world.build("CLIPAdapter", tmp_path / "a", *opts)
    zero_shot = world.build("ZeroshotCLIP", tmp_path / "b")
    image = torch.randn(3, 3, 32, 32)
    expected = zero_shot.model_inference(image)
    torch.testing.assert_close(plain.model(image), expected, rtol=1e-5, atol=1e-5)


def test_the_refiner_refines_the_text_and_the_adapter_the_image(clip_model):
    """The tokens of the semantic loss are not adapted, and the hand-written T has no gradient."""
    learner = build(clip_model)
    model = RefinedCLIP(learner, TextRefiner(32, 32).double(), RefinerSettings())
    text = naive_text(clip_model)
    torch.testing.assert_close(model.class_features(), model.refiner(text), **EXACT)
    batch = {"img": torch.randn(2, 3, 32, 32, dtype=torch.float64), "label": torch.tensor([0, 1])}
    losses = model.training_step(batch).losses
    assert list(losses) == ["ce", "semantic", "regularizer"]
    first = learner.adapter.fc[0].weight
    for name in ("semantic", "regularizer"):
        (gradient,) = torch.autograd.grad(losses[name], first, retain_graph=True, allow_unused=True)
        assert gradient is None
    (gradient,) = torch.autograd.grad(losses["ce"], first)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("reduction", [33, 0, -4])
def test_a_reduction_that_leaves_no_unit_is_refused(tmp_path, reduction):
    world = ToyWorld(tmp_path)
    with pytest.raises(SettingsError, match=r"TRAINER\.CLIPADAPTER\.REDUCTION"):
        world.build("CLIPAdapter", tmp_path / "run", "TRAINER.CLIPADAPTER.REDUCTION", reduction)
