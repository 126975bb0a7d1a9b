"""Compare TCP with loops over images and classes, packed and in parts."""

import pytest
import torch

from clip import clip
from tests.toy import toy_clip
from tests.trainers import naive
from tests.trainers.toy_runs import ToyWorld, learned
from trainers.settings import SettingsError
from trainers.tcp import ENDINGS, TEMPLATES, ClassAwarePrompts, TCPLearner
from trainers.trainer import RefinedCLIP

EXACT = {"rtol": 0, "atol": 1e-9}
NAMES = ["cat", "wind_turbine", "very large dog", "a", "some other very long name", "pig"]
TEMPLATE = "a photo of a {}, a type of pet."


@pytest.fixture(scope="module")
def clip_model():
    return toy_clip().double().requires_grad_(False)


def build(clip_model, layer=1, n_ctx=3, ending="{}, a type of pet.", words=""):
    prompts = ClassAwarePrompts(clip_model, NAMES, n_ctx, words, ending).double()
    return TCPLearner(clip_model, prompts, TEMPLATE, NAMES, 8.0, layer)


def naive_text(learner, ending):
    """Return unit text features and those of the template, one class at a time."""
    model, prompts = learner.clip_model, learner.prompts
    linear1, linear2 = prompts.meta_net.linear1, prompts.meta_net.linear2
    n, width = prompts.ctx.shape
    features, frozen = [], []
    for name in NAMES:
        name = name.replace("_", " ")
        t0 = model.encode_text(clip.tokenize(TEMPLATE.format(name)))[0]
        t0 = t0 / t0.norm()
        hidden = linear1.weight @ t0 + linear1.bias
        hidden = hidden / (1 + torch.exp(-1.702 * hidden))
        tokens = (linear2.weight @ hidden + linear2.bias).view(n, width)
        ids = clip.tokenize(f"{' '.join(['X'] * n)} {ending.format(name)}")[0]
        x = model.token_embedding(ids)
        x = torch.cat([x[:1], prompts.ctx, x[1 + n :]]) + model.positional_embedding
        mask = torch.full((len(x), len(x)), float("-inf"), dtype=x.dtype).triu(1)
        for depth, block in enumerate(model.transformer.resblocks):
            if depth == learner.layer:
                x = torch.cat([x[:1], tokens, x[1 + n :]])
            x, _ = naive.block(block, x, mask)
        feature = model.ln_final(x[int(ids.argmax())]) @ model.text_projection
        features.append(feature / feature.norm())
        frozen.append(t0)
    return torch.stack(features), torch.stack(frozen)


@pytest.mark.parametrize("ending", ["{}.", "{}, a type of pet.", "person doing {}."])
@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("at_once", [6, 4, 1])
def test_losses_and_gradients_equal_loops(clip_model, layer, ending, at_once):
    learner = build(clip_model, layer, ending=ending)
    learner.prompts.packing.set_max_prompts(at_once)
    image = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    label = torch.tensor([2, 0, 5])
    logits, losses = RefinedCLIP(learner).training_step({"img": image, "label": label})

    text, frozen = naive_text(learner, ending)
    rows = []
    for single in image:
        g = naive.image_tokens(clip_model.visual, single)[0][0]
        rows.append(torch.stack([clip_model.logit_scale.exp() * g @ t / g.norm() for t in text]))
    expected = torch.stack(rows)
    torch.testing.assert_close(logits, expected, **EXACT)
    picked = [row[y] - row.exp().sum().log() for row, y in zip(expected, label, strict=True)]
    cosines = [t @ t0 for t, t0 in zip(text, frozen, strict=True)]
    wanted = {"ce": -sum(picked) / len(image), "distance": 8 * (1 - sum(cosines) / len(NAMES))}
    assert losses.keys() == wanted.keys()
    parameters = list(learner.prompts.parameters())
    assert len(parameters) == 5
    for name, value in wanted.items():
        torch.testing.assert_close(losses[name], value, **EXACT)
    found = torch.autograd.grad(sum(losses.values()), parameters)
    for ours, theirs in zip(
        found, torch.autograd.grad(sum(wanted.values()), parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, **EXACT)
        assert ours.abs().sum() > 0


def test_one_class(clip_model):
    """The prefix of one class is not mistaken for a shared one."""
    learner = build(clip_model)
    prompts = ClassAwarePrompts(clip_model, NAMES[:1], 3, "", "{}, a type of pet.").double()
    prompts.load_state_dict(learner.prompts.state_dict())
    alone = TCPLearner(clip_model, prompts, TEMPLATE, NAMES[:1], 8.0, 1)
    torch.testing.assert_close(alone.encode_text(), learner.encode_text()[:1], **EXACT)


def test_several_prompts_share_a_row(clip_model):
    """Otherwise no test of the packing would compare anything."""
    (part,) = build(clip_model).prompts.packing
    assert part.prompts.shape[1] > 1
    assert sorted(part.prompts[part.prompts >= 0].tolist()) == list(range(len(NAMES)))


def test_context_from_words(clip_model):
    ctx = build(clip_model, words="a photo of a").prompts.ctx
    start = clip_model.token_embedding(clip.tokenize("a photo of a")[0, 1:5])
    torch.testing.assert_close(ctx.detach(), start, rtol=0, atol=1e-7)


@pytest.mark.parametrize("layer", [0, 3])
def test_invalid_layers_raise(clip_model, layer):
    with pytest.raises(SettingsError, match=rf"TRAINER.TCP.LAYER must be between 1 and 2.*{layer}"):
        build(clip_model, layer)


def test_each_data_set_has_its_own_prompts(tmp_path):
    """Both tables are those of the public code."""
    assert TEMPLATES["FGVCAircraft"] == "a photo of an aircraft {}."
    assert TEMPLATES["DescribableTextures"] == "a photo of a {}, a type of texture."
    assert TEMPLATES["UCF101"] == "a photo of a person doing {}."
    assert (len(TEMPLATES), len(ENDINGS)) == (7, 7)
    trainer = ToyWorld(tmp_path).build("TCP", tmp_path / "run")
    assert trainer.model.learner.template == "a photo of a {}."


def test_epsilon_of_adam_is_used(tmp_path):
    world = ToyWorld(tmp_path)
    adam = ("OPTIM.NAME", "adam", "OPTIM.MAX_EPOCH", 1)
    small = world.trained("TCP", tmp_path / "small", *adam)
    large = world.trained("TCP", tmp_path / "large", *adam, "OPTIM.ADAM_EPS", 1e-3)
    assert (small.optim.defaults["eps"], large.optim.defaults["eps"]) == (1e-8, 1e-3)
    assert any(not torch.equal(v, learned(large)[k]) for k, v in learned(small).items())
