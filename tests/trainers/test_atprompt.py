"""Compare ATPrompt with loops over images and classes, and its prompts with token lists."""

from pathlib import Path

import pytest
import torch

from clip import clip
from clip.simple_tokenizer import SimpleTokenizer
from scripts.runner.job import Request, Workspace
from scripts.runner.plan import plan
from tests.toy import toy_clip
from tests.trainers import naive
from tests.trainers.toy_runs import ToyWorld
from trainers.atprompt import AttributePrompts
from trainers.kgcoop import KgCoOpLearner
from trainers.prompting.contexts import ContextPrompts
from trainers.settings import SettingsError
from trainers.trainer import RefinedCLIP

EXACT = {"rtol": 0, "atol": 1e-9}
NAMES = ["cat", "wind_turbine", "very large dog", "pig"]
TEMPLATE = "a photo of a {}, a type of pet."
WORDS = [["color"], ["color", "shape"], ["playfulness", "energy", "fur length"]]


@pytest.fixture(scope="module")
def clip_model():
    return toy_clip().double().requires_grad_(False)


def build(clip_model, words, weight=0.0):
    prompts = AttributePrompts(clip_model, NAMES, words, n_att=2, n_ctx=3).double()
    return KgCoOpLearner(clip_model, prompts, TEMPLATE, NAMES, weight)


def naive_text(clip_model, prompts, words):
    """Return unit text features (C, d), one class at a time."""
    table, encode = clip_model.token_embedding.weight, SimpleTokenizer().encode
    features = []
    for name in NAMES:
        rows = [table[49406]]
        for i, word in enumerate(words, 1):
            rows += [*getattr(prompts, f"ctx_att{i}"), *(table[t] for t in encode(word))]
        rows += [*prompts.ctx, *(table[t] for t in encode(name.replace("_", " ") + "."))]
        x = torch.stack([*rows, table[49407]])
        x = x + clip_model.positional_embedding[: len(x)]
        mask = torch.full((len(x), len(x)), float("-inf"), dtype=x.dtype).triu(1)
        for block in clip_model.transformer.resblocks:
            x, _ = naive.block(block, x, mask)
        feature = clip_model.ln_final(x[-1]) @ clip_model.text_projection
        features.append(feature / feature.norm())
    return torch.stack(features)


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
@pytest.mark.parametrize("weight", [0.0, 8.0])
def test_losses_and_gradients_equal_loops(clip_model, weight, words):
    learner = build(clip_model, words, weight)
    image = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    label = torch.tensor([2, 0, 3])
    logits, losses = RefinedCLIP(learner).training_step({"img": image, "label": label})

    text = naive_text(clip_model, learner.prompts, words)
    rows = []
    for single in image:
        g = naive.image_tokens(clip_model.visual, single)[0][0]
        rows.append(torch.stack([clip_model.logit_scale.exp() * g @ t / g.norm() for t in text]))
    expected = torch.stack(rows)
    torch.testing.assert_close(logits, expected, **EXACT)
    picked = [row[y] - row.exp().sum().log() for row, y in zip(expected, label, strict=True)]
    wanted = {"ce": -sum(picked) / len(image)}
    if weight:
        total = 0
        for name, row in zip(NAMES, text, strict=True):
            t0 = clip_model.encode_text(clip.tokenize(TEMPLATE.format(name.replace("_", " "))))[0]
            total = total + row @ t0 / t0.norm()
        wanted["distance"] = weight * (1 - total / len(NAMES))
    assert losses.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(losses[name], value, **EXACT)
    parameters = list(learner.prompts.parameters())
    assert len(parameters) == 1 + len(words)
    found = torch.autograd.grad(sum(losses.values()), parameters)
    for ours, theirs in zip(
        found, torch.autograd.grad(sum(wanted.values()), parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, **EXACT)
        assert ours.abs().sum() > 0


def test_everything_before_the_class_name_is_shared(clip_model):
    """SOS, twice two learned tokens and a word of one token, and three context tokens."""
    prompts = build(clip_model, ["color", "shape"]).prompts
    assert prompts.packing.start == 1 + 2 * (2 + 1) + 3
    assert list(prompts.state_dict()) == ["ctx", "ctx_att1", "ctx_att2"]


def test_settings_are_used(tmp_path, capsys):
    world = ToyWorld(tmp_path)
    opts = ("TRAINER.ATPROMPT.ATTRIBUTES", ["fur_length ", "size"], "TRAINER.ATPROMPT.N_ATT", 4)
    prompts = world.build("ATPrompt", tmp_path / "run", *opts).model.learner.prompts
    assert "Attributes: fur length, size, each after 4 learned tokens" in capsys.readouterr().out
    assert prompts.packing.start == 1 + (4 + 2) + (4 + 1) + 2
    assert prompts.ctx_att2.shape == (4, 64)


@pytest.mark.parametrize("words", [[], [" "], ["color", "_"], [3]])
def test_attributes_without_words_raise(tmp_path, words):
    world = ToyWorld(tmp_path)
    with pytest.raises(SettingsError, match=r"TRAINER\.ATPROMPT\.ATTRIBUTES"):
        world.build("ATPrompt", tmp_path / "run", "TRAINER.ATPROMPT.ATTRIBUTES", words)


def test_words_before_the_context_need_a_shared_one(clip_model):
    with pytest.raises(ValueError, match="need a shared one"):
        ContextPrompts(clip_model, NAMES, 2, class_specific=True, lead="color")


# Table 1 of the README of zhengli97/ATPrompt.
PUBLIC = {
    "imagenet": ["color", "shape"],
    "caltech101": ["shape", "size"],
    "oxford_pets": ["playfulness", "energy"],
    "stanford_cars": ["luxury"],
    "oxford_flowers": ["color", "habitat", "growth"],
    "food101": ["flavor", "preparation"],
    "fgvc_aircraft": ["design", "range"],
    "sun397": ["function"],
    "dtd": ["pattern", "color", "design"],
    "eurosat": ["habitat"],
    "ucf101": ["precision"],
}


@pytest.mark.parametrize("dataset", PUBLIC)
def test_protocols_have_the_public_attributes(dataset, tmp_path):
    place = Workspace(Path(__file__).parents[2], tmp_path, tmp_path / "output")
    for method in ("atprompt", "textrefiner-atprompt"):
        train, test = plan(Request(method, "base2new", dataset, 1, {}), place)
        length = "4" if dataset == "dtd" else None
        for job in (train, test):
            assert job.options["TRAINER.ATPROMPT.ATTRIBUTES"] == str(PUBLIC[dataset])
            for key in ("TRAINER.ATPROMPT.N_CTX", "TRAINER.ATPROMPT.N_ATT"):
                assert job.options.get(key) == length


def test_tests_on_other_datasets_keep_the_attributes_of_the_training(tmp_path):
    place = Workspace(Path(__file__).parents[2], tmp_path, tmp_path / "output")
    jobs = plan(Request("atprompt", "xd", "imagenet", 1, {}), place)
    assert len(jobs) > 10
    assert {job.options.get("TRAINER.ATPROMPT.ATTRIBUTES") for job in jobs} == {None}
    assert {job.options["TRAINER.ATPROMPT.N_ATT"] for job in jobs} == {"4"}
