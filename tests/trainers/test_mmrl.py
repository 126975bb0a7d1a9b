"""Compare MMRL with loops over images and classes; which head is used, and bad settings."""

import pytest
import torch
from yacs.config import CfgNode

from clip import clip
from tests.toy import toy_clip, toy_resnet
from tests.trainers import naive
from tests.trainers.toy_runs import ToyWorld
from trainers.classifier.loading import load
from trainers.mmrl import MMRLLearner, RepresentationTokens
from trainers.prompting.templates import TemplatePrompts
from trainers.settings import RefinerSettings, SettingsError, extend_cfg
from trainers.trainer import RefinedCLIP

EXACT = {"rtol": 0, "atol": 1e-9}
NAMES = ["cat", "wind_turbine", "very large dog"]
TEMPLATE = "a photo of a {}, a type of pet."
SHARE, WEIGHT = 0.7, 3.0


@pytest.fixture(scope="module")
def clip_model():
    return toy_clip().double().requires_grad_(False)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


def build(clip_model, blocks, count=2):
    torch.manual_seed(0)
    tokens = RepresentationTokens(clip_model, count, 8, blocks)
    learner = MMRLLearner(clip_model, tokens, TEMPLATE, NAMES, SHARE, WEIGHT).double()
    for module in (learner.tokens, learner.second):
        for parameter in module.parameters():  # the maps start as copies of one
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return learner


def naive_tokens(learner, maps):
    learned = learner.tokens.compound_rep_tokens
    maps = getattr(learner.tokens, f"compound_rep_tokens_{maps}")
    return {
        block: torch.stack([layer.weight @ row + layer.bias for row in learned])
        for block, layer in zip(learner.tokens.blocks, maps, strict=True)
    }


def naive_text(learner, name):
    """Return the unit feature of one class; tokens are inserted after SOS."""
    model, inserted = learner.clip_model, naive_tokens(learner, "r2tproj")
    ids = clip.tokenize(TEMPLATE.format(name.replace("_", " ")))[0]
    x, count = model.token_embedding(ids) + model.positional_embedding, 0
    for depth, module in enumerate(model.transformer.resblocks):
        if depth in inserted:
            x = torch.cat([x[:1], inserted[depth], x[1 + count :]])
            count = len(inserted[depth])
        mask = torch.full((len(x), len(x)), float("-inf"), dtype=x.dtype).triu(1)
        x, _ = naive.block(module, x, mask)
    feature = model.ln_final(x[int(ids.argmax()) + count]) @ model.text_projection
    return feature / feature.norm()


def naive_image(learner, image):
    """Return both unit features of one image, and the tokens without the inserted ones."""
    visual, inserted = learner.clip_model.visual, naive_tokens(learner, "r2vproj")
    patches = visual.conv1(image[None])[0].flatten(1).T
    x = torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding
    x, count = visual.ln_pre(x), 0
    for depth, module in enumerate(visual.transformer.resblocks):
        if depth in inserted:
            x = torch.cat([x[:1], inserted[depth], x[1 + count :]])
            count = len(inserted[depth])
        x, weights = naive.block(module, x)
    rows = [visual.ln_post(row) for row in x]
    first = rows[0] @ visual.proj
    second = sum(rows[1 : 1 + count]) / count @ learner.second.proj_rep
    local = torch.stack([row @ visual.proj for row in [rows[0], *rows[1 + count :]]])
    return first / first.norm(), second / second.norm(), local, weights[0, 1 + count :]


def cross_entropy(logits, label):
    rows = zip(logits, label, strict=True)
    return -sum(row[y] - row.exp().sum().log() for row, y in rows) / len(label)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("blocks", [[1], [3], [2, 3], [1, 3], [1, 2, 3]])
def test_losses_and_tokens_equal_loops(clip_model, blocks, count):
    learner = build(clip_model, blocks, count)
    image, label = torch.randn(3, 3, 32, 32, dtype=torch.float64), torch.tensor([2, 0, 1])
    logits, losses = RefinedCLIP(learner).training_step({"img": image, "label": label})

    text = torch.stack([naive_text(learner, name) for name in NAMES])
    first, second, local, saliency = map(
        torch.stack, zip(*(naive_image(learner, x) for x in image), strict=True)
    )
    tau = clip_model.logit_scale.exp()
    one, two = (torch.stack([tau * text @ row for row in rows]) for rows in (first, second))
    torch.testing.assert_close(logits, SHARE * one + (1 - SHARE) * two, **EXACT)

    g0 = torch.stack([clip_model.encode_image(x[None])[0] for x in image])
    t0 = [
        clip_model.encode_text(clip.tokenize(TEMPLATE.format(n.replace("_", " "))))[0]
        for n in NAMES
    ]
    near_image = sum(a @ b / b.norm() for a, b in zip(first, g0, strict=True)) / 3
    near_text = sum(a @ b / b.norm() for a, b in zip(text, t0, strict=True)) / 3
    expected = {
        "ce": SHARE * cross_entropy(one, label),
        "ce_second": (1 - SHARE) * cross_entropy(two, label),
        "reg_image": WEIGHT * (1 - near_image),
        "reg_text": WEIGHT * (1 - near_text),
    }
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, **EXACT)

    tokens = learner.encode_image(image, local=True)
    torch.testing.assert_close(tokens.local, local, **EXACT)
    torch.testing.assert_close(tokens.saliency, saliency, **EXACT)


@pytest.mark.parametrize("chunk", [1, 2])
def test_chunks_of_prompts_do_not_change_the_text(clip_model, chunk):
    learner = build(clip_model, [2, 3])
    whole = learner.encode_text()
    learner.prompts.packing.set_max_prompts(chunk)
    torch.testing.assert_close(learner.encode_text(), whole, **EXACT)


def test_second_head_is_left_out_for_other_classes(clip_model):
    learner = build(clip_model, [2, 3])
    image = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    model = RefinedCLIP(learner)
    text = torch.stack([naive_text(learner, name) for name in NAMES])
    first, second, *_ = map(
        torch.stack, zip(*(naive_image(learner, x) for x in image), strict=True)
    )
    tau = clip_model.logit_scale.exp()
    both = tau * (SHARE * first @ text.T + (1 - SHARE) * second @ text.T)
    torch.testing.assert_close(model(image), both, **EXACT)
    learner.trained_classes = False
    torch.testing.assert_close(model(image), tau * first @ text.T, **EXACT)


@pytest.mark.parametrize("name", ["MMRL", "TextRefinerMMRL"])
def test_loaded_models_use_the_second_head_for_the_trained_classes_only(world, name, tmp_path):
    trained = world.trained(name, tmp_path / "run", "OPTIM.MAX_EPOCH", 1)
    assert trained.model.learner.trained_classes
    for classes, both in (("base", True), ("new", False), ("all", False)):
        tested = world.build(name, tmp_path / classes, "DATASET.SUBSAMPLE_CLASSES", classes)
        tested.load_model(str(tmp_path / "run"), epoch=1)
        assert tested.model.learner.trained_classes == both
    image = torch.randn(2, 3, 32, 32)
    trained.set_model_mode("eval")
    classifier = load(tmp_path / "run", device="cpu")
    with torch.no_grad():
        expected = trained.model(image)
    torch.testing.assert_close(classifier.logits(image), expected)
    other = classifier.with_classes(["cat", "dog", "horse"])
    assert not other.model.learner.trained_classes
    again = other.with_classes(classifier.classnames)
    torch.testing.assert_close(again.logits(image), expected)


def test_public_folders_decide_by_the_classes_of_the_test(world, tmp_path):
    world.trained("MMRL", tmp_path / "run", "OPTIM.MAX_EPOCH", 1)
    (tmp_path / "run" / "checkpoint.json").unlink()
    for classes, both in (("base", True), ("new", False)):
        tested = world.build("MMRL", tmp_path / classes, "DATASET.SUBSAMPLE_CLASSES", classes)
        tested.load_model(str(tmp_path / "run"), epoch=1)
        assert tested.model.learner.trained_classes == both


def test_weight_of_the_learner_is_not_the_refiners():
    cfg = CfgNode({"TRAINER": CfgNode(), "DATASET": CfgNode()})
    extend_cfg(cfg)
    cfg.TRAINER.MMRL.REG_WEIGHT = 7.0
    cfg.TRAINER.TEXTREFINER.REG_WEIGHT = 5.0
    assert RefinerSettings.from_cfg(cfg, "MMRL").reg_weight == 5.0


def test_state_dict_has_the_public_layout(clip_model):
    modules = build(clip_model, [2, 3]).trainable_modules
    names = ["r2vproj.0", "r2vproj.1", "r2tproj.0", "r2tproj.1"]
    maps = [f"compound_rep_tokens_{n}.{kind}" for n in names for kind in ("weight", "bias")]
    assert list(modules["MultiModalPromptLearner"].state_dict()) == [
        *(f"representation_learner.{key}" for key in ["compound_rep_tokens", *maps]),
        "image_encoder.proj_rep",
    ]


@pytest.mark.parametrize("blocks", [[3, 2], [2, 2], [2, 4]])
def test_invalid_blocks_raise(clip_model, blocks):
    with pytest.raises(SettingsError, match=r"REP_LAYERS is .*ascending order from 1 to 3"):
        build(clip_model, blocks)


def test_resnets_and_empty_lists_raise(world, tmp_path):
    with pytest.raises(SettingsError, match="does not support visual prompts"):
        RepresentationTokens(toy_resnet(), 2, 8, [1])
    with pytest.raises(SettingsError, match="REP_LAYERS must be a list of whole numbers"):
        world.build("MMRL", tmp_path, "TRAINER.MMRL.REP_LAYERS", [])


def test_names_longer_than_the_context_raise(clip_model):
    with pytest.raises(SettingsError, match="a class name is too long for 'a photo of a"):
        TemplatePrompts(clip_model, TEMPLATE, ["cat " * 80])
