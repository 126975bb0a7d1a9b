"""The names of CoOp's coop.py against loops in float64, and against this project's CoOp."""

from __future__ import annotations

import pytest
import torch

from clip import clip
from tests.trainers.toy_runs import ToyWorld
from trainers.coop import CustomCLIP, PromptLearner, TextEncoder, load_clip_to_cpu
from trainers.settings import SettingsError

NAMES = ["face", "yin_yang", "water lilly"]  # of 1, 3 and 3 tokens


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


def coop_cfg(world, tmp_path, **settings):
    options = [part for key, value in settings.items() for part in (f"TRAINER.COOP.{key}", value)]
    return world.cfg("CoOp", tmp_path, *options)


def test_clip_is_in_float16_on_the_cpu(world, tmp_path):
    model = load_clip_to_cpu(coop_cfg(world, tmp_path))
    assert model.dtype == torch.float16
    assert not model.training
    exact, _ = clip.load(world.clip, device="cpu")
    assert torch.equal(model.visual.proj, exact.visual.proj.half())


@pytest.mark.parametrize("position", ["front", "middle", "end"])
@pytest.mark.parametrize("csc", [False, True])
def test_prompts_are_those_of_a_loop(position, csc, world, tmp_path):
    cfg = coop_cfg(world, tmp_path, N_CTX=5, CSC=csc, CLASS_TOKEN_POSITION=position)
    model = load_clip_to_cpu(cfg).double()
    learner = PromptLearner(cfg, NAMES, model)
    prompts = learner()
    assert learner.ctx.shape == ((3, 5, 64) if csc else (5, 64))
    assert prompts.shape == (3, 77, 64)
    for row, name in enumerate(NAMES):
        ids = clip.tokenize(f"X X X X X {name.replace('_', ' ')}.")[0]
        assert torch.equal(learner.tokenized_prompts[row], ids)
        embedded = model.token_embedding(ids)
        context = list(learner.ctx[row] if csc else learner.ctx)
        end = int(ids.argmax())
        words = list(embedded[6 : end - 1])  # without start, context, full stop and end
        before = {"front": 0, "middle": 2, "end": 5}[position]
        sequence = [embedded[0], *context[:before], *words, *context[before:]]
        sequence += list(embedded[end - 1 :])
        torch.testing.assert_close(prompts[row], torch.stack(sequence), rtol=0, atol=1e-9)


@torch.no_grad()
def test_logits_are_those_of_a_loop(world, tmp_path):
    cfg = coop_cfg(world, tmp_path, CTX_INIT="a photo of a")
    model = load_clip_to_cpu(cfg).double()
    custom = CustomCLIP(cfg, NAMES, model)
    assert custom.dtype == torch.float64
    image = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    logits = custom(image)
    for column, name in enumerate(NAMES):
        ids = clip.tokenize(f"a photo of a {name.replace('_', ' ')}.")
        states = model.token_embedding(ids) + model.positional_embedding
        for block in model.transformer.resblocks:
            states = block(states.transpose(0, 1)).transpose(0, 1)
        text = model.ln_final(states)[0, int(ids.argmax())] @ model.text_projection
        encoded = custom.text_encoder(custom.prompt_learner(), custom.tokenized_prompts)[column]
        torch.testing.assert_close(encoded, text, rtol=0, atol=1e-9)
        for row in range(4):
            feature = model.visual(image[row : row + 1])[0]
            cosine = feature @ text / feature.square().sum().sqrt() / text.square().sum().sqrt()
            expected = model.logit_scale.exp() * cosine
            torch.testing.assert_close(logits[row, column], expected, rtol=0, atol=1e-9)


@torch.no_grad()
def test_its_checkpoint_loads_into_this_projects_coop(world, tmp_path):
    cfg = coop_cfg(world, tmp_path, CTX_INIT="a photo of a")
    ours = world.build("CoOp", tmp_path, "TRAINER.COOP.CTX_INIT", "a photo of a")
    names = ours.dm.dataset.classnames
    custom = CustomCLIP(cfg, names, load_clip_to_cpu(cfg).float())
    assert set(custom.prompt_learner.state_dict()) == {"ctx", "token_prefix", "token_suffix"}
    torch.nn.init.normal_(custom.prompt_learner.ctx)
    (tmp_path / "prompt_learner").mkdir()
    state = {"state_dict": custom.prompt_learner.state_dict(), "epoch": 3}
    torch.save(state, tmp_path / "prompt_learner" / "model.pth.tar-3")
    ours.load_model(str(tmp_path), epoch=3)
    image = torch.randn(4, 3, 32, 32)
    # Weights are rounded to float16 in theirs.
    torch.testing.assert_close(ours.model(image), custom(image), rtol=0, atol=0.2)


def test_gradients_reach_the_context_alone(world, tmp_path):
    cfg = coop_cfg(world, tmp_path)
    custom = CustomCLIP(cfg, NAMES, load_clip_to_cpu(cfg).float())
    for name, parameter in custom.named_parameters():
        parameter.requires_grad_("prompt_learner" in name)
    custom(torch.randn(2, 3, 32, 32)).sum().backward()
    got = [name for name, parameter in custom.named_parameters() if parameter.grad is not None]
    assert got == ["prompt_learner.ctx"]
    assert custom.prompt_learner.ctx.grad.abs().sum() > 0


def test_another_image_size_is_refused(world, tmp_path):
    cfg = world.cfg("CoOp", tmp_path, "INPUT.SIZE", (64, 64))
    with pytest.raises(SettingsError, match=r"INPUT.SIZE is 64, but .* set it to \(32, 32\)"):
        PromptLearner(cfg, NAMES, load_clip_to_cpu(cfg))


def test_text_encoder_keeps_the_models_modules(world, tmp_path):
    model = load_clip_to_cpu(coop_cfg(world, tmp_path))
    assert TextEncoder(model).transformer is model.transformer
