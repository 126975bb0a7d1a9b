"""Compare each control of the refiner with loops, alone and in a training."""

import math

import pytest
import torch
import torch.nn.functional as F

from scripts.exporting.matrix import head_notes
from tests.trainers.toy_runs import ToyWorld, learned
from trainers.classifier import load
from trainers.losses import regularizer
from trainers.refiner import LocalCache, TextRefiner
from trainers.refiner_controls import ControlledRefiner, Controls
from trainers.settings import RefinerSettings, SettingsError

C, D, M, ALPHA = 5, 6, 4, 0.3


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


def make(scale=1.0, **controls):
    """A refiner in double precision, and unit texts (C, D)."""
    options = {"cache_size": M, "alpha": ALPHA, "read_scale": scale}
    refiner = ControlledRefiner(7, D, controls=Controls(**controls), **options).double()
    text = torch.randn(C, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return refiner, F.normalize(text, dim=-1)


def naive_reads(refiner, text, scale):
    """softmax(s T A^T) A one class at a time."""
    reads = []
    for row in text:
        mix = [math.exp(scale * float(row @ entry)) for entry in refiner.cache.entries]
        pairs = zip(mix, refiner.cache.entries, strict=True)
        reads.append(sum(m / sum(mix) * entry for m, entry in pairs))
    return reads


def times(weight, vector):
    """A product of a matrix and a vector, number by number."""
    return [sum(float(w) * float(v) for w, v in zip(row, vector, strict=True)) for row in weight]


def naive_refined(refiner, text, scale=1.0, which="both", read="each", unit=False):
    """T' of method.md ("Controls") one number at a time."""
    reads, rows = naive_reads(refiner, text, scale), []
    for c in range(C):
        if read == "mean":
            own = sum(reads) / C
        else:
            own = reads[(c - C // 2) % C] if read == "shuffled" else reads[c]
        inputs = {"both": [*text[c], *own], "text": [*text[c]], "read": [*own]}[which]
        for weight in refiner.aggregate.state_dict().values():  # W, or V and then U
            inputs = times(weight, inputs)
        row = [float(t) + ALPHA * w for t, w in zip(text[c], inputs, strict=True)]
        norm = math.sqrt(sum(value * value for value in row)) if unit else 1.0
        rows.append([value / norm for value in row])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(
    ("controls", "scale", "naive"),
    [
        ({}, 1.0, {}),
        ({}, 10.0, {"scale": 10.0}),
        ({}, 100.0, {"scale": 100.0}),
        ({"aggregate": "text"}, 1.0, {"which": "text"}),
        ({"aggregate": "read"}, 30.0, {"which": "read", "scale": 30.0}),
        ({"aggregate": "text", "rank": 2}, 1.0, {"which": "text"}),
        ({"rank": 3}, 1.0, {}),
        ({"read": "mean"}, 10.0, {"read": "mean", "scale": 10.0}),
        ({"read": "shuffled"}, 10.0, {"read": "shuffled", "scale": 10.0}),
        ({"renormalize": True}, 1.0, {"unit": True}),
        ({"aggregate": "text", "renormalize": True}, 1.0, {"which": "text", "unit": True}),
    ],
)
def test_each_control_equals_loops(controls, scale, naive):
    refiner, text = make(scale, **controls)
    expected = naive_refined(refiner, text, **naive)
    with torch.no_grad():
        torch.testing.assert_close(refiner(text), expected, rtol=0, atol=1e-9)
        per_image = refiner(torch.stack([text, text.flip(0)]))  # (B, C, d), as with CoCoOp
        torch.testing.assert_close(per_image[0], expected, rtol=0, atol=1e-9)
        torch.testing.assert_close(per_image[1], refiner(text.flip(0)), rtol=0, atol=1e-9)
    assert torch.autograd.gradcheck(refiner, (text.requires_grad_(),))


def test_without_a_control_it_is_the_refiner_bit_by_bit():
    torch.manual_seed(5)
    plain = TextRefiner(7, D, cache_size=M)
    torch.manual_seed(5)
    same = ControlledRefiner(7, D, controls=Controls(), cache_size=M, read_scale=1.0)
    for key, value in plain.state_dict().items():
        assert torch.equal(value, same.state_dict()[key]), key
    text = F.normalize(torch.randn(C, D), dim=-1)
    assert torch.equal(plain(text), same(text))
    entries = plain.cache.entries
    read = (text @ entries.T).softmax(dim=-1) @ entries
    assert torch.equal(plain(text), text + 0.2 * plain.aggregate(torch.cat([text, read], -1)))


@pytest.mark.parametrize(
    ("controls", "shapes"),
    [
        ({"aggregate": "text"}, {"text.weight": (D, D)}),
        ({"aggregate": "read"}, {"read.weight": (D, D)}),
        ({"aggregate": "text", "rank": 2}, {"down.weight": (2, D), "up.weight": (D, 2)}),
        ({"rank": 2}, {"down.weight": (2, 2 * D), "up.weight": (D, 2)}),
        ({"zero_start": True}, {"weight": (D, 2 * D)}),
    ],
)
def test_weights_have_the_form_of_the_control(controls, shapes):
    refiner, _ = make(**controls)
    found = {key: tuple(value.shape) for key, value in refiner.aggregate.state_dict().items()}
    assert found == shapes


@pytest.mark.parametrize("form", [{}, {"aggregate": "text"}, {"rank": 2}])
def test_zero_start_leaves_the_text_and_can_leave_zero(form):
    refiner, text = make(zero_start=True, **form)
    assert torch.equal(refiner(text), text)
    refiner(text).square().sum().backward()
    *first, last = refiner.aggregate.parameters()
    assert last.grad.abs().max() > 0
    assert all(weight.abs().max() > 0 for weight in first)


def test_scale_sharpens_the_read():
    cache = LocalCache(M, D, scale=1e4)
    query = F.normalize(torch.randn(3, D), dim=-1)
    nearest = cache.entries[(query @ cache.entries.T).argmax(dim=-1)]
    torch.testing.assert_close(cache.read(query), nearest)
    with pytest.raises(ValueError, match="scale > 0"):
        LocalCache(M, D, scale=0.0)


def options(**settings):
    return [part for key, v in settings.items() for part in (f"TRAINER.TEXTREFINER.{key}", v)]


def test_frozen_alignment_keeps_its_weights(world, tmp_path, capsys):
    trainer = world.build("TextRefinerCoOp", tmp_path, *options(FREEZE_ALIGN=True))
    assert "align" not in capsys.readouterr().out.split("Trained parameters")[1].split(")")[0]
    start = learned(trainer)
    trainer.train()
    for key, value in learned(trainer).items():
        frozen = ".align." in key and not key.endswith(("running_mean", "running_var", "tracked"))
        assert torch.equal(value, start[key]) == frozen, key
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    assert trainer.describe()["trained_parameters"] == trained


@pytest.mark.parametrize("name", ["TextRefinerCoOp", "TextRefinerCoCoOp", "TextRefinerPromptKD"])
def test_local_loss_on_the_image_feature_equals_loops(world, name, tmp_path):
    trainer = world.build(name, tmp_path, *options(LOCAL_ON="global"))
    model = trainer.model.double()
    batch = {"img": torch.randn(3, 3, 32, 32).double(), "label": torch.tensor([0, 2, 1])}
    features = F.normalize(model.learner.encode_image(batch["img"], False).pooled.double(), dim=-1)
    text = model.learner.encode_text(features)
    objective, scale = model.learner.objective(batch), model.learner.logit_scale.double()
    losses = []
    for i, feature in enumerate(features):
        rows = text[i] if text.dim() == 3 else text
        logits = torch.stack([scale * (feature * row).sum() for row in rows])
        losses.append(objective.loss(logits[None], objective.target[i : i + 1]))
    weight = objective.weight * model.settings.local_weight
    expected = weight * sum(losses) / len(losses)
    found = model.training_step(batch).losses["semantic"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    found.backward()
    assert all(parameter.grad is None for parameter in model.refiner.align.parameters())


def test_local_loss_on_the_image_feature_without_cache_computes_no_token(world, tmp_path):
    trainer = world.build("TextRefinerCoOp", tmp_path, *options(LOCAL_ON="global", CACHE=False))
    assert not trainer.model.settings.needs_tokens
    trainer.train()


@pytest.mark.parametrize(
    "settings",
    [
        {"AGGREGATE": "text", "CACHE": False, "LOCAL": False, "RANK": 4},
        {"AGGREGATE": "read", "READ_SCALE": 30.0, "ZERO_START": True},
        {"READ": "shuffled", "RENORMALIZE": True},
    ],
)
def test_a_trained_control_is_loaded_and_tested(world, settings, tmp_path):
    trained = world.trained("TextRefinerCoOp", tmp_path / "base", *options(**settings))
    new = ("DATASET.SUBSAMPLE_CLASSES", "new")
    other = world.build("TextRefinerCoOp", tmp_path / "new", *new, *options(**settings))
    other.load_model(str(tmp_path / "base"), epoch=3)
    for key, value in learned(trained).items():
        assert torch.equal(value, learned(other)[key]), key
    assert other.test() >= 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"aggregate": "text"}, "AGGREGATE text leaves the read out, .* 25 entries: set CACHE"),
        ({"aggregate": "read", "cache": False}, "AGGREGATE read has no effect: without a cache"),
        ({"read": "mean", "cache": False}, "READ mean has no effect: with CACHE_SIZE 0"),
        ({"read_scale": 10.0, "cache_size": 1}, "READ_SCALE 10.0 has no effect: with CACHE_SIZE 1"),
        ({"rank": 2, "alpha": 0.0}, "RANK 2 has no effect: with ALPHA 0 nothing is aggregated"),
        ({"renormalize": True, "alpha": 0.0}, "RENORMALIZE True has no effect: with ALPHA 0"),
        ({"freeze_align": True, "local": False}, "FREEZE_ALIGN True has no effect: with LOCAL_W"),
        ({"freeze_align": True, "local_on": "global"}, "FREEZE_ALIGN True .* LOCAL_ON global"),
        ({"local_on": "global", "local_weight": 0}, "LOCAL_ON global has no effect: with LOCAL_W"),
        ({"read_scale": 0.0}, "READ_SCALE must be a finite number > 0"),
        ({"read": "shufled"}, "READ must be one of .* did you mean 'shuffled'"),
        ({"rank": -1}, "RANK must be a whole number from 0"),
    ],
)
def test_controls_without_an_effect_are_refused(settings, sentence):
    with pytest.raises(SettingsError, match=rf"^TRAINER\.TEXTREFINER\.{sentence}"):
        RefinerSettings(**settings)


def test_rank_must_be_below_the_width(world, tmp_path):
    with pytest.raises(SettingsError, match=r"RANK is 32, but W has 32 rows: set it to at most 31"):
        world.build("TextRefinerCoOp", tmp_path, *options(RANK=32))


def test_a_read_that_all_classes_share_changes_no_prediction_and_has_no_gradient():
    """The algebra of method.md, "What the read can change"."""
    refiner, text = make(read="mean")
    images = F.normalize(torch.randn(8, D, dtype=torch.float64), dim=-1)
    labels = torch.arange(8) % C
    refined = refiner(text)
    F.cross_entropy(100 * images @ refined.T, labels).backward()
    gradient = refiner.aggregate.weight.grad
    assert gradient[:, :D].abs().max() > 1e-3  # W1
    torch.testing.assert_close(gradient[:, D:], torch.zeros(D, D).double(), rtol=0, atol=1e-9)
    without = refiner.combine(text, torch.zeros_like(text))
    shift = images @ (refined - without).T
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), rtol=0, atol=1e-9)
    assert shift.abs().max() > 1e-3
    refiner.zero_grad()
    regularizer(refiner(text), text).backward()
    assert refiner.aggregate.weight.grad[:, D:].abs().max() > 1e-3


def test_card_says_whether_the_texts_are_normalized(world, tmp_path):
    for renormalize in (False, True):
        folder = tmp_path / str(renormalize)
        world.trained("TextRefinerCoOp", folder, *options(RENORMALIZE=renormalize))
        classifier = load(folder)
        assert classifier.model.settings.renormalize == renormalize
        norms = classifier.text_features.norm(dim=-1)
        assert torch.allclose(norms, torch.ones_like(norms)) == renormalize
        notes = " ".join(head_notes(classifier))
        assert ("not normalized" in notes) != renormalize
