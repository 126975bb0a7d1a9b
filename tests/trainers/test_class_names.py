"""Warnings about class names: what they name, when they are given, and where they are not."""

import re

import pytest
import torch
import torch.nn.functional as F
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from clip import clip
from dassl.data.datasets import DatasetBase
from datasets.critters_world.species import SPECIES
from tests.trainers.toy_runs import ToyWorld
from trainers.class_names import (
    feature_warnings,
    name_warnings,
    single_class_warnings,
    word_warnings,
)
from trainers.learner import class_tokens
from trainers.zsclip import DEFAULT_TEMPLATE, template_features

CRITTERS = [species.name for species in SPECIES]
KEY = "MODEL.BACKBONE.NAME"


class FittingWorld(ToyWorld):
    """A world with the settings of its CLIP, so that only class names give warnings."""

    def build(self, trainer, output, *opts):
        mean = ("INPUT.PIXEL_MEAN", [0.48145466, 0.4578275, 0.40821073])
        std = ("INPUT.PIXEL_STD", [0.26862954, 0.26130258, 0.27577711])
        nodes = ("COOP", "COCOOP", "PROMPTKD")
        precision = [part for name in nodes for part in (f"TRAINER.{name}.PREC", "fp32")]
        return super().build(trainer, output, *mean, *std, *precision, *opts)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return FittingWorld(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module", params=["critters-vit-t", "critters-vit-s"])
def bundled(request):
    """Return the name of a bundled CLIP, and the model."""
    return request.param, clip.load(request.param, device="cpu")[0].requires_grad_(False)


@pytest.mark.parametrize(
    ("names", "warning"),
    [
        (["leaf", "oak", "leaf"], "have the same name, .*: 'leaf' \\(labels 0, 2\\)"),
        (["Bell Pepper", "bell_pepper"], ": 'Bell Pepper' and 'bell_pepper' \\(labels 0, 1\\)"),
        (["two  words", "two words", "oak"], "differ only in case, spaces or underscores"),
        (["oak", "", " _"], "are empty or blank: '' \\(label 1\\), ' _' \\(label 2\\)$"),
        (["a", "a", "b", "b", "c", "c", "d", "d", "e", "e"], "'c' \\(labels 4, 5\\) and 2 more$"),
        (["a"] * 9, ": 'a' \\(labels 0, 1, 2, ...\\)$"),
    ],
)
def test_names_that_clip_cannot_tell_apart(names, warning):
    (found,) = name_warnings(names)
    assert re.search(warning, found), found


def test_each_kind_has_its_own_warning():
    assert len(name_warnings(["a", "a", "Oak", "oak", "", "fir"])) == 3


def test_tokens_are_those_of_the_prompts():
    """Names with a warning have equal rows of tokens, others do not."""
    model = clip.load("critters-vit-t", device="cpu")[0]
    names = ["Bell Pepper", "bell_pepper", "bell-pepper", "bellpepper"]
    ids = class_tokens(model, "a photo of a", names).ids
    assert torch.equal(ids[0], ids[1])
    assert not any(torch.equal(ids[0], row) for row in ids[2:])
    assert name_warnings(names)
    assert not name_warnings(names[1:])


def test_imagenet_has_two_pairs_of_equal_names_and_nothing_else():
    (found,) = name_warnings(IMAGENET_CLASSNAMES)
    assert found.endswith("'missile' (labels 657, 744), 'sunglasses' (labels 836, 837)")


def test_lists_of_one_class():
    assert not single_class_warnings(["oak", "fir"], [])
    assert not single_class_warnings(["oak", "fir", "yew"], [[0, 1], [1, 2]])
    for names, groups in ((["yew"], []), (["oak", "fir", "yew"], [[0, 1], [2]])):
        (found,) = single_class_warnings(names, groups)
        assert "the only class that is compared is 'yew'" in found


def test_words_that_the_bundled_models_never_saw(bundled):
    name, model = bundled
    names = ["forktail dax", "Local_cat", "dog", "global", "wug dog", "horse"]
    (found,) = word_warnings(names, model.token_embedding.weight, KEY, name)
    assert found == (
        f"{name} has never seen the words 'Local', 'cat', 'dog' and 2 more (in 5 of 6 class names: "
        "'Local_cat', 'dog', 'global' and 2 more), because the bundled models are for Critters "
        "only: set MODEL.BACKBONE.NAME to a CLIP for all words, such as ViT-B/16"
    )
    features = template_features(model, [DEFAULT_TEMPLATE], ["dog", "global", "forktail dax"])
    (found,) = feature_warnings(["dog", "global", "forktail dax"], features)
    assert found.startswith("the text features of 'dog' and 'global' are equal, so that")


def test_critters_has_no_warnings(bundled):
    name, model = bundled
    assert not name_warnings(CRITTERS)
    assert not word_warnings(CRITTERS, model.token_embedding.weight, KEY, name)
    assert not feature_warnings(CRITTERS, template_features(model, [DEFAULT_TEMPLATE], CRITTERS))


def test_names_without_words():
    assert not word_warnings(["", "_"], torch.zeros(4, 2), KEY, "toy")


def test_equal_features_are_counted_across_blocks(monkeypatch):
    """Rows 0, 3 and 5 are equal, as are 1 and 4; 2 and 6 have names that are equal anyway."""
    monkeypatch.setattr("trainers.class_names.ROWS", 2)
    names = ["a", "b", "Oak tree", "d", "e", "f", "oak_tree"]
    rows = F.normalize(torch.randn(7, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    rows[3], rows[5], rows[4], rows[6] = 2 * rows[0], rows[0], rows[1], rows[2]
    (found,) = feature_warnings(names, rows)
    assert found.startswith(
        "the text features of 'a' and 'd', of 'a' and 'f', of 'b' and 'e' (and 1 more pairs) are"
    )
    assert not feature_warnings(names, torch.eye(7))
    assert not feature_warnings(names, torch.full((7, 8), torch.nan))


def test_a_trainer_warns_once_and_keeps_its_warnings(world, tmp_path, capsys):
    """The two classes have equal features in every epoch."""
    best = ("TEST.NO_TEST", False, "TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", 2)
    trainer = world.build("CoOp", tmp_path, *best)
    assert trainer.warnings == []
    features = trainer.model.class_features

    def collapsed():
        text = features()
        return torch.cat([text[:1], text[:1], text[2:]])

    trainer.model.class_features = collapsed
    trainer.train()
    trainer.test()
    expected = (
        "the text features of 'face' and 'leopard' are equal, so that the model cannot tell these "
        "classes apart"
    )
    assert trainer.warnings == [expected]
    assert capsys.readouterr().out.count(f"warning: {expected}\n") == 1


@pytest.mark.parametrize("trainer", ["CoOp", "CoCoOp", "ZeroshotCLIP", "TextRefinerPromptKD"])
def test_trainers_warn_about_names(world, tmp_path, capsys, monkeypatch, trainer):
    names = ["Bell Pepper", "bell_pepper", "oak"]
    monkeypatch.setattr(DatasetBase, "classnames", names)
    built = world.build(trainer, tmp_path)
    (found,) = built.warnings
    assert "'Bell Pepper' and 'bell_pepper'" in found
    assert capsys.readouterr().out.count("'Bell Pepper' and 'bell_pepper'") == 1


def test_new_half_of_one_class(world, tmp_path, monkeypatch):
    monkeypatch.setattr(DatasetBase, "classnames", ["oak"])
    for trainer in ("CoOp", "ZeroshotCLIP"):
        (found,) = world.build(trainer, tmp_path).warnings
        assert found.startswith("the only class that is compared is 'oak'")


def test_words_of_a_teacher(world, tmp_path, monkeypatch):
    """The class names are encoded by the teacher, so that its setting is named."""
    names = ["forktail dax", "dog"]
    monkeypatch.setattr(DatasetBase, "classnames", names)
    trainer = world.build("PromptKD", tmp_path)
    assert trainer.warnings == []
    trainer.model.learner.teacher.clip_model.token_embedding.weight.data.zero_()
    trainer._warn_about_classes(trainer.model.learner)
    assert f"{world.teacher_clip} has never seen the words" in trainer.warnings[0]
    assert "set TRAINER.PROMPTKD.TEACHER_NAME to a CLIP" in trainer.warnings[0]
    trainer.model.learner.teacher = None
    trainer.warnings.clear()
    trainer._warn_about_classes(trainer.model.learner)
    assert trainer.warnings == []


def test_warnings_of_the_backbone_are_kept_once(tmp_path, capsys):
    """The toy configs have ImageNet's normalization, and fp16, for student and teacher."""
    trainer = ToyWorld(tmp_path).build("PromptKD", tmp_path)
    starts = ("INPUT.PIXEL_MEAN is", "INPUT.PIXEL_STD is", "PREC fp16 is not supported on cpu")
    out = capsys.readouterr().out
    for start, text in zip(starts, trainer.warnings, strict=True):
        assert text.startswith(start)
        assert out.count(f"warning: {text}\n") == 1
