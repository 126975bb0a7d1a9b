"""Zero-shot templates of each dataset, and the ensemble compared with a loop."""

import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

from clip import clip
from tests.toy import toy_clip
from tests.trainers.toy_runs import ToyWorld
from trainers.coop import CoOpLearner
from trainers.prompting.contexts import ContextPrompts
from trainers.zsclip import ZeroshotCLIP, ZeroshotCLIP2, context_template, template_features

OWN = {
    "OxfordPets": "a photo of a {}, a type of pet.",
    "OxfordFlowers": "a photo of a {}, a type of flower.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "DescribableTextures": "{} texture.",
    "EuroSAT": "a centered satellite photo of {}.",
    "Food101": "a photo of {}, a type of food.",
    "UCF101": "a photo of a person doing {}.",
    "Caltech101": "a photo of a {}.",
    "ImageNet": "a photo of a {}.",
    "SUN397": "a photo of a {}.",
}
ENSEMBLE = [
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
]
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def templates_of(trainer, dataset, settings=None):
    """Return the templates without building a trainer, which needs the data."""
    bare = trainer.__new__(trainer)
    bare.cfg = CfgNode({"DATASET": {"NAME": dataset}, **(settings or {})})
    return bare.templates()


@pytest.mark.parametrize("dataset", OWN)
def test_templates(dataset):
    assert templates_of(ZeroshotCLIP, dataset) == [OWN[dataset]]
    own = [] if dataset == "ImageNet" else [OWN[dataset]]
    assert templates_of(ZeroshotCLIP2, dataset) == ENSEMBLE + own


@pytest.mark.parametrize(
    ("context", "template", "prompt"),
    [
        ("", "a photo of a {}.", "a photo of a wug."),
        (" a close-up_photo  of a", "a close-up photo of a {}.", "a close-up photo of a wug."),
        ("a {set} of", "a {{set}} of {}.", "a {set} of wug."),
    ],
)
def test_own_images_have_the_words_that_coop_starts_from(context, template, prompt):
    coop = {"TRAINER": {"COOP": {"CTX_INIT": context}}}
    assert templates_of(ZeroshotCLIP, "ImageFolder", coop) == [template]
    assert templates_of(ZeroshotCLIP2, "ImageFolder", coop) == [*ENSEMBLE, template]
    assert template.format("wug") == prompt
    # The benchmarks keep their published templates.
    assert templates_of(ZeroshotCLIP, "EuroSAT", coop) == [OWN["EuroSAT"]]
    assert templates_of(ZeroshotCLIP, "ImageNet", coop) == [OWN["ImageNet"]]


def test_the_template_is_the_prompt_that_coop_starts_from():
    """Its text features equal those of CoOp's untrained prompts."""
    model, names = toy_clip().requires_grad_(False), ["cat", "wind_turbine"]
    learner = CoOpLearner(model, ContextPrompts(model, names, ctx_init="a close-up photo of a"))
    features = template_features(model, [context_template("a close-up photo of a")], names)
    torch.testing.assert_close(learner.encode_text().detach(), features)


@pytest.mark.parametrize("normalize", [True, False])
def test_ensemble_equals_a_loop(normalize):
    model = toy_clip().double().requires_grad_(False)
    templates, names = (
        ["a photo of a {}.", "{} texture, a very large one."],
        ["cat", "wind_turbine"],
    )
    rows = []
    for name in names:
        total = 0
        for template in templates:
            text = template.format(name.replace("_", " "))
            feature = model.encode_text(clip.tokenize(text))[0]
            total = total + (feature / feature.norm() if normalize else feature)
        rows.append(total / total.norm())
    features = template_features(model, templates, names, normalize=normalize)
    torch.testing.assert_close(features, torch.stack(rows), rtol=0, atol=1e-9)
    torch.testing.assert_close(F.normalize(features, dim=-1), features)


@pytest.mark.parametrize(
    ("value", "used"), [("fp16", True), ("fp32", True), ("amp", True), ("bf16", False)]
)
def test_a_precision_that_is_not_used(tmp_path, value, used):
    """Zero-shot CLIP is in fp32 on a CPU; fp16 is the default of every trainer."""
    options = ("INPUT.PIXEL_MEAN", MEAN, "INPUT.PIXEL_STD", STD, "TRAINER.COCOOP.PREC", value)
    trainer = ToyWorld(tmp_path).build("ZeroshotCLIP", tmp_path, *options)
    assert trainer.precision == "fp32"
    expected = (
        f"TRAINER.COCOOP.PREC {value} is not used: ZeroshotCLIP computes in fp16 on CUDA and in "
        "fp32 on a CPU"
    )
    assert trainer.warnings == ([] if used else [expected])
