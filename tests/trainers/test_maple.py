"""Compare MaPLe with loops over images and classes, and load its public layout."""

import pytest
import torch

from clip import clip
from tests.toy import toy_clip, toy_resnet
from tests.trainers import naive
from trainers.checkpoints.load import load_trained
from trainers.maple import CoupledPrompts, MaPLeLearner
from trainers.settings import SettingsError
from trainers.trainer import RefinedCLIP

EXACT = {"rtol": 0, "atol": 1e-9}
NAMES = ["cat", "wind_turbine", "very large dog"]


@pytest.fixture(scope="module")
def clip_model():
    return toy_clip(vision_width=128).double().requires_grad_(False)


def build(clip_model, depth=3, n_ctx=2, ctx_init="a photo of a"):
    prompts = CoupledPrompts(clip_model, NAMES, n_ctx, ctx_init, depth).double()
    return MaPLeLearner(clip_model, prompts)


def naive_logits(learner, image, words="a photo of a"):
    """Compute logits one image and class at a time from parameters by their public names."""
    model, state = learner.clip_model, dict(learner.prompts.named_parameters())
    ctx, depth = state["ctx"], 1 + len(learner.prompts.compound_prompts_text)
    text = [state[f"compound_prompts_text.{i}"] for i in range(depth - 1)]
    vision = [ctx @ state["proj.weight"].T + state["proj.bias"]]
    for i, prompt in enumerate(text):
        weight = state[f"compound_prompt_projections.{i}.weight"]
        vision.append(prompt @ weight.T + state[f"compound_prompt_projections.{i}.bias"])
    classes = []
    for name in NAMES:
        ids = clip.tokenize(f"{words} {name.replace('_', ' ')}.")[0]
        embedding = model.token_embedding(ids)
        embedding = torch.cat([embedding[:1], ctx, embedding[1 + len(ctx) :]])
        feature = naive.text_feature(model, embedding, int(ids.argmax()), text)
        classes.append(feature / feature.norm())
    rows = []
    for single in image:
        feature = naive.image_tokens(model.visual, single, vision)[0][0]
        rows.append([model.logit_scale.exp() * feature @ c / feature.norm() for c in classes])
    return torch.stack([torch.stack(row) for row in rows])


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_logits_and_gradients_equal_loops(clip_model, depth):
    learner = build(clip_model, depth)
    model = RefinedCLIP(learner)
    model.freeze()
    image = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    label = torch.tensor([2, 0, 1])
    logits, losses = model.training_step({"img": image, "label": label})
    expected = naive_logits(learner, image)
    torch.testing.assert_close(logits, expected, **EXACT)
    loss = torch.nn.functional.cross_entropy(expected, label)
    torch.testing.assert_close(losses["ce"], loss, **EXACT)
    parameters = list(learner.prompts.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(losses["ce"], parameters),
        torch.autograd.grad(loss, parameters),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, **EXACT)
        assert ours.abs().sum() > 0


def test_deeper_projections_start_as_copies_and_are_trained_separately(clip_model):
    first, second = build(clip_model).prompts.compound_prompt_projections
    assert torch.equal(first.weight, second.weight)
    assert first.weight is not second.weight


def test_only_the_first_words_are_learned(clip_model):
    ctx = build(clip_model).prompts.ctx
    start = clip_model.token_embedding(clip.tokenize("a photo")[0, 1:3])
    torch.testing.assert_close(ctx.detach(), start, rtol=0, atol=1e-7)


def test_public_checkpoint_loads(clip_model, tmp_path):
    learner = build(clip_model)
    state = {f"prompt_learner.{k}": v + 1 for k, v in learner.prompts.state_dict().items()}
    state["prompt_learner.token_prefix"] = torch.zeros(9, 1, 64)
    state["prompt_learner.token_suffix"] = torch.zeros(9, 74, 64)
    state["logit_scale"] = clip_model.logit_scale
    state["image_encoder.proj"] = clip_model.visual.proj.half()
    state["text_encoder.text_projection"] = clip_model.text_projection.half()
    folder = tmp_path / "MultiModalPromptLearner"
    folder.mkdir()
    torch.save({"state_dict": state, "epoch": 5}, folder / "model.pth.tar-5")
    expected = {k: v + 1 for k, v in learner.prompts.state_dict().items()}
    load_trained(RefinedCLIP(learner).trainable_modules(), str(tmp_path), 5, clip_model)
    for key, value in learner.prompts.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("depth", [0, 4])
def test_invalid_depths_raise(clip_model, depth):
    with pytest.raises(SettingsError, match=f"must be between 1 and 3.*got {depth}"):
        build(clip_model, depth)


def test_resnet_raises():
    with pytest.raises(SettingsError, match="ModifiedResNet does not support visual prompts"):
        build(toy_resnet())
