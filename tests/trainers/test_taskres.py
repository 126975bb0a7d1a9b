"""Compare TaskRes with loops over images, templates and classes."""

import pytest
import torch

from clip import clip
from tests.toy import toy_clip
from tests.trainers import naive
from tests.trainers.toy_runs import ToyWorld, learned
from trainers.refiner import TextRefiner
from trainers.settings import RefinerSettings, SettingsError
from trainers.taskres import TaskResLearner
from trainers.trainer import RefinedCLIP
from trainers.zsclip import simple_templates

EXACT = {"rtol": 0, "atol": 1e-9}
NAMES = ["cat", "wind_turbine", "very large dog"]
TEMPLATES = ["a photo of a {}, a type of pet.", "itap of a {}."]


@pytest.fixture(scope="module")
def clip_model():
    return toy_clip().double().requires_grad_(False)


def build(clip_model, templates=TEMPLATES, scale=0.5):
    learner = TaskResLearner(clip_model, templates, NAMES, scale)
    with torch.no_grad():
        residual = learner.prompts.text_feature_residuals
        residual.add_(torch.randn_like(residual))
    return learner


def naive_text(clip_model, templates, residual, scale):
    """Return the normalized text features, class by class and template by template."""
    rows = []
    for name, shift in zip(NAMES, residual, strict=True):
        total = 0
        for template in templates:
            ids = clip.tokenize(template.format(name.replace("_", " ")))
            total = total + clip_model.encode_text(ids)[0]
        row = total / len(templates) + scale * shift
        rows.append(row / row.norm())
    return torch.stack(rows)


@pytest.mark.parametrize("templates", [TEMPLATES, TEMPLATES[:1]])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_logits_loss_and_gradient_equal_loops(clip_model, templates, scale):
    learner = build(clip_model, templates, scale)
    residual = learner.prompts.text_feature_residuals
    image = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    label = torch.tensor([2, 0, 1])
    logits, losses = RefinedCLIP(learner).training_step({"img": image, "label": label})

    text = naive_text(clip_model, templates, residual, scale)
    rows = []
    for single in image:
        g = naive.image_tokens(clip_model.visual, single)[0][0]
        rows.append(torch.stack([clip_model.logit_scale.exp() * g @ t / g.norm() for t in text]))
    torch.testing.assert_close(logits, torch.stack(rows), **EXACT)
    ce = -sum(row[y] - row.exp().sum().log() for row, y in zip(rows, label, strict=True)) / 3
    assert list(losses) == ["ce"]
    torch.testing.assert_close(losses["ce"], ce, **EXACT)
    ours, theirs = (torch.autograd.grad(x, residual)[0] for x in (losses["ce"], ce))
    torch.testing.assert_close(ours, theirs, **EXACT)
    assert ours.abs().sum() > 0


def test_the_refiner_reads_the_features_with_the_residual(clip_model):
    learner = build(clip_model)
    model = RefinedCLIP(learner, TextRefiner(32, 32).double(), RefinerSettings())
    residual = learner.prompts.text_feature_residuals
    text = naive_text(clip_model, TEMPLATES, residual, 0.5)
    torch.testing.assert_close(model.class_features(), model.refiner(text), **EXACT)
    batch = {"img": torch.randn(2, 3, 32, 32, dtype=torch.float64), "label": torch.tensor([0, 1])}
    assert list(model.training_step(batch).losses) == ["ce", "semantic", "regularizer"]


def test_training_starts_at_zero_shot_clip(tmp_path):
    world = ToyWorld(tmp_path)
    trainer, zero_shot = (world.build(n, tmp_path / n) for n in ("TaskRes", "ZeroshotCLIP"))
    text = trainer.model.class_features()
    torch.testing.assert_close(text, zero_shot.text_features, rtol=0, atol=1e-6)


def test_imagenet_has_the_seven_templates_as_well(tmp_path):
    """As the public code, which averages features that are not normalized."""
    trainer = ToyWorld(tmp_path).build("TaskRes", tmp_path / "run")
    clip_model, names = trainer.model.learner.clip_model, ["cat", "dog"]
    trainer.cfg.defrost()
    trainer.cfg.DATASET.NAME = "ImageNet"
    base = trainer.build_learner(clip_model, names).prompts.base_text_features
    templates = [*simple_templates(), "a photo of a {}."]
    assert len(templates) == 8
    for row, name in zip(base, names, strict=True):
        ids = clip.tokenize([template.format(name) for template in templates])
        expected = clip_model.encode_text(ids).mean(dim=0)
        torch.testing.assert_close(row, expected, rtol=1e-5, atol=1e-5)


def test_an_enhanced_base_is_loaded_with_its_residual(tmp_path):
    """The public code can save text features of a text encoder that it tuned before."""
    world = ToyWorld(tmp_path)
    trained = world.trained("TaskRes", tmp_path / "run")
    file = tmp_path / "run/prompt_learner/model.pth.tar-3"
    content = torch.load(file)
    content["state_dict"]["base_text_features"] += 1
    torch.save(content, file)
    other = world.build("TaskRes", tmp_path / "other")
    other.load_model(str(tmp_path / "run"), epoch=3)
    key = "prompt_learner.base_text_features"
    assert torch.equal(learned(other)[key], learned(trained)[key] + 1)


def test_a_residual_without_its_base_is_refused(tmp_path):
    world = ToyWorld(tmp_path)
    trained = world.trained("TaskRes", tmp_path / "run")
    file = tmp_path / "run/prompt_learner/model.pth.tar-3"
    content = torch.load(file)
    del content["state_dict"]["base_text_features"]
    torch.save(content, file)
    with pytest.raises(SettingsError, match="lacks base_text_features"):
        trained.load_model(str(tmp_path / "run"), epoch=3)
