"""Compare PromptSRC with loops over images and classes; its aggregation and public layout."""

import math

import pytest
import torch
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES
from yacs.config import CfgNode

from clip import clip
from tests.toy import toy_clip, toy_resnet
from tests.trainers import naive
from tests.trainers.toy_runs import ToyWorld, learned
from trainers.checkpoints.load import load_trained
from trainers.prompting.deep import IndependentPrompts
from trainers.promptsrc import AggregatedPrompts, PromptSRCLearner, gaussian_weights
from trainers.settings import SettingsError, extend_cfg, node
from trainers.trainer import RefinedCLIP

EXACT = {"rtol": 0, "atol": 1e-9}
NAMES = ["cat", "wind_turbine", "very large dog"]


def settings(**changes):
    cfg = CfgNode({"TRAINER": CfgNode(), "DATASET": CfgNode()})
    extend_cfg(cfg)
    merged = node(cfg, "PROMPTSRC")
    small = {"PROMPT_DEPTH_VISION": 3, "PROMPT_DEPTH_TEXT": 3}
    merged.update(small | changes)
    return merged


@pytest.fixture(scope="module")
def clip_model():
    return toy_clip().double().requires_grad_(False)


def build(clip_model, **changes):
    deep = AggregatedPrompts(clip_model, NAMES, settings(**changes)).double()
    return PromptSRCLearner(clip_model, deep, NAMES, 25, 10)


def naive_features(learner, image, context):
    clip_model, deep = learner.clip_model, learner.deep
    vision, text = deep.image_encoder(), deep.text_encoder()
    g = torch.stack([naive.image_tokens(clip_model.visual, x, vision)[0][0] for x in image])
    ctx = deep.prompt_learner.ctx
    classes = [naive.class_feature(clip_model, name, context, ctx, text) for name in NAMES]
    return torch.stack([row / row.norm() for row in g]), torch.stack(classes)


@pytest.mark.parametrize("length", [2, 4])
@pytest.mark.parametrize("depths", [(3, 3), (1, 2), (2, 1), (0, 3)])
def test_losses_equal_loops(clip_model, depths, length):
    vision, text = depths
    learner = build(
        clip_model,
        PROMPT_DEPTH_VISION=vision,
        PROMPT_DEPTH_TEXT=text,
        N_CTX_VISION=3,
        N_CTX_TEXT=length,
    )
    with torch.no_grad():
        for parameter in learner.deep.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    image, label = torch.randn(3, 3, 32, 32, dtype=torch.float64), torch.tensor([2, 0, 1])
    logits, losses = RefinedCLIP(learner).training_step({"img": image, "label": label})

    g, t = naive_features(learner, image, "a photo of a")
    tau, count = clip_model.logit_scale.exp(), len(image) * len(NAMES)
    ours = torch.stack([torch.stack([tau * a @ b for b in t]) for a in g])
    torch.testing.assert_close(logits, ours, **EXACT)

    g0 = torch.stack([clip_model.encode_image(x[None])[0] for x in image])
    g0 = torch.stack([row / row.norm() for row in g0])
    t0 = []
    for name in NAMES:
        words = name.replace("_", " ")
        texts = [template(words) for template in OPENAI_IMAGENET_TEMPLATES[:60]]
        mean = sum(clip_model.encode_text(clip.tokenize(text))[0] for text in texts) / 60
        t0.append(mean / mean.norm())
    t0 = torch.stack(t0)
    zero_shot = torch.stack([torch.stack([tau * a @ b for b in t0]) for a in g0])
    expected = {
        "ce": -sum((row[y] - row.exp().sum().log()) for row, y in zip(ours, label, strict=True))
        / len(image),
        "scl_text": 25 * sum(abs(a - b).sum() for a, b in zip(t, t0, strict=True)) / t.numel(),
        "scl_image": 10 * sum(abs(a - b).sum() for a, b in zip(g, g0, strict=True)) / g.numel(),
        "scl_logits": sum(naive.kl(a, b) for a, b in zip(zero_shot, ours, strict=True)) / count,
    }
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, **EXACT)


def test_gaussian_weights_by_hand():
    raw = [math.exp(-(((e - 2) / 1.5) ** 2) / 2) for e in (1, 2, 3, 4)]
    assert gaussian_weights(4, 2, 1.5) == pytest.approx([w / sum(raw) for w in raw])
    # So far from the mean that every exponential underflows to 0.
    assert gaussian_weights(3, 200, 1) == pytest.approx([0, 0, 1])


def test_final_prompts_are_the_weighted_sum_over_epochs(tmp_path, capsys):
    trainer = ToyWorld(tmp_path).build("PromptSRC", tmp_path / "run")
    seen, original = [], trainer.run_epoch
    prompts = trainer.model.learner.deep

    def run_epoch():
        original()
        seen.append([p.detach().clone() for p in prompts.parameters()])

    trainer.run_epoch = run_epoch
    trainer.train()
    weights = gaussian_weights(3, 2, 1)
    for i, parameter in enumerate(prompts.parameters()):
        expected = sum(w * epoch[i] for w, epoch in zip(weights, seen, strict=True))
        torch.testing.assert_close(parameter.detach(), expected)
        assert not torch.equal(parameter, seen[-1][i])
    assert "Deploy the prompts aggregated over all epochs" in capsys.readouterr().out


def test_state_dict_has_the_public_layout(clip_model):
    keys = list(IndependentPrompts(clip_model, NAMES, settings()).state_dict())
    assert keys == [
        "prompt_learner.ctx",
        "image_encoder.VPT",
        "image_encoder.transformer.resblocks.1.VPT_shallow",
        "image_encoder.transformer.resblocks.2.VPT_shallow",
        "text_encoder.transformer.resblocks.1.VPT_shallow",
        "text_encoder.transformer.resblocks.2.VPT_shallow",
    ]


def public_file(folder, clip_model, deep):
    """Save the public layout: the whole model with its prompts, and class-name buffers."""
    state = {k: v for k, v in deep.state_dict().items() if k != "aggregate"}
    for key, value in clip_model.state_dict().items():
        if key.startswith("visual."):
            state["image_encoder." + key[7:]] = value
            state["prompt_learner.ZS_image_encoder." + key[7:]] = value
        elif key != "token_embedding.weight":
            state[key if key == "logit_scale" else "text_encoder." + key] = value
    state["prompt_learner.token_prefix"] = torch.zeros(9, 1, 64)
    state["prompt_learner.token_suffix"] = torch.zeros(9, 72, 64)
    (folder / "VLPromptLearner").mkdir(parents=True)
    path = folder / "VLPromptLearner" / "model.pth.tar-20"
    torch.save({"state_dict": state, "epoch": 20, "optimizer": {}, "scheduler": {}}, path)
    return path


def test_public_checkpoint_loads(clip_model, tmp_path):
    trained = build(clip_model).deep
    public_file(tmp_path, clip_model, trained)
    other = build(clip_model)
    load_trained(other.trainable_modules, str(tmp_path), 20, clip_model)
    for a, b in zip(trained.parameters(), other.deep.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(SettingsError, match=r"lacks .*text_encoder.*2\.VPT_shallow|adds"):
        load_trained(
            build(clip_model, PROMPT_DEPTH_TEXT=2).trainable_modules, str(tmp_path), 20, clip_model
        )
    with pytest.raises(SettingsError, match="was trained with another CLIP"):
        load_trained(other.trainable_modules, str(tmp_path), 20, toy_clip(seed=1).double())


def test_our_checkpoint_contains_the_prompts_and_their_sum(tmp_path):
    trainer = ToyWorld(tmp_path).trained("PromptSRC", tmp_path / "run")
    assert {key.split(".")[1] for key in learned(trainer)} == {
        *("prompt_learner", "image_encoder", "text_encoder", "aggregate")
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PROMPT_DEPTH_VISION": 4}, "PROMPT_DEPTH_VISION must be between 0 and 3.*got 4"),
        ({"PROMPT_DEPTH_TEXT": 0}, "PROMPT_DEPTH_TEXT must be between 1 and 3"),
        ({"N_CTX_VISION": 0}, "N_CTX_VISION must be at least 1"),
        ({"N_CTX_TEXT": 3, "CTX_INIT": "a photo"}, "number of text tokens is 3, but CTX_INIT"),
    ],
)
def test_invalid_prompt_settings_raise(clip_model, changes, message):
    with pytest.raises(SettingsError, match=message):
        build(clip_model, **changes)


def test_resnet_and_invalid_deviation_raise(tmp_path):
    with pytest.raises(SettingsError, match="does not support visual prompts"):
        IndependentPrompts(toy_resnet(), NAMES, settings())
    with pytest.raises(SettingsError, match=r"GPA_STD must be a finite number > 0 .* got 0"):
        ToyWorld(tmp_path).build("PromptSRC", tmp_path, "TRAINER.PROMPTSRC.GPA_STD", 0)


def test_long_contexts_are_initialized_randomly(clip_model, capsys):
    deep = IndependentPrompts(clip_model, NAMES, settings(N_CTX_TEXT=6))
    assert deep.prompt_learner.ctx.shape == (6, 64)
    assert "is not used: it initializes at most 4 tokens" in capsys.readouterr().out
