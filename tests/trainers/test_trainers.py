"""Generic tests of every trainer: config, registry, training loop and files."""

import pytest
import torch

from dassl.utils import UsageError
from tests.toy import toy_clip
from tests.trainers.toy_runs import CLASS_BOUND, FIXED, TEST_CASES, ToyWorld, learned
from trainers.settings import SettingsError
from trainers.trainer import RefinedCLIP
from trainers.zsclip import template_features

NAMES = [name for name, _ in TEST_CASES]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("name", NAMES)
def test_trains_what_it_declares_and_nothing_else(world, name, tmp_path, capsys):
    trainer = world.build(name, tmp_path)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    clip = {k: v.clone() for k, v in trainer.model.learner.clip_model.state_dict().items()}
    start = learned(trainer)
    trainer.train()
    for key, value in learned(trainer).items():
        assert value.dtype == torch.float32 or key.endswith("num_batches_tracked")
        assert torch.equal(value, start[key]) == (key in FIXED), f"{key} was not trained, or was"
    for key, value in trainer.model.learner.clip_model.state_dict().items():
        assert torch.equal(value, clip[key]), f"CLIP's {key} moved"
    assert before.keys() == trainer.model.state_dict().keys()
    count = sum(
        v.numel() for m in trainer.model.trainable_modules().values() for v in m.parameters()
    )
    out = capsys.readouterr().out
    assert f"Trained parameters: {count:,}" in out
    assert "Precision: fp32 on cpu" in out
    assert "Finish training" in out


@pytest.mark.parametrize("name", NAMES)
def test_loss_decreases(world, name, tmp_path):
    # No augmentation, so images are the same in every epoch: the mean loss must decrease. A loss
    # that starts at 0, such as a distance to the initial prompts, can only grow and is left out.
    trainer = world.build(
        name, tmp_path, "OPTIM.MAX_EPOCH", 8, "OPTIM.LR", 0.05, "INPUT.TRANSFORMS", ("normalize",)
    )
    steps, original = [], trainer.model.training_step

    def recording(batch):
        step = original(batch)
        steps.append({key: float(value.detach()) for key, value in step.losses.items()})
        return step

    trainer.model.training_step = recording
    trainer.train()
    falling = [key for key, value in steps[0].items() if value > 1e-4]
    losses = [sum(step[key] for key in falling) for step in steps]
    assert next(iter(steps[0])) in falling, "the objective's loss comes first"
    count = len(losses) // 8
    assert sum(losses[-count:]) < sum(losses[:count])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CLASS_BOUND])
def test_trained_on_base_loads_strictly_onto_new(world, name, tmp_path):
    trained = world.trained(name, tmp_path / "base")
    other = world.build(name, tmp_path / "new", "DATASET.SUBSAMPLE_CLASSES", "new")
    assert trained.dm.dataset.classnames != other.dm.dataset.classnames
    assert any(not torch.equal(a, b) for a, b in zip(*map(_values, (trained, other)), strict=True))
    other.load_model(str(tmp_path / "base"), epoch=3)
    for a, b in zip(_values(trained), _values(other), strict=True):
        assert torch.equal(a, b)
    assert other.test() >= 0


def _values(trainer):
    return list(learned(trainer).values())


@pytest.mark.parametrize("name", CLASS_BOUND)
def test_parameters_of_single_classes_load_for_these_classes_only(world, name, tmp_path):
    trained = world.trained(name, tmp_path / "base")
    again = world.build(name, tmp_path / "again")
    again.load_model(str(tmp_path / "base"), epoch=3)
    for a, b in zip(_values(trained), _values(again), strict=True):
        assert torch.equal(a, b)
    assert again.test() == trained.test()
    for classes in ("new", "all"):
        other = world.build(name, tmp_path / classes, "DATASET.SUBSAMPLE_CLASSES", classes)
        with pytest.raises(
            SettingsError,
            match=r"has values for each class of its training, but class \d is .* test it with the "
            r"classes of the training \(DATASET.SUBSAMPLE_CLASSES\), or train a method without",
        ):
            other.load_model(str(tmp_path / "base"), epoch=3)


@pytest.mark.parametrize("name", NAMES)
def test_interruption_evaluation_and_workers_do_not_change_training(world, name, tmp_path):
    straight = learned(world.trained(name, tmp_path / "straight"))
    evaluated = world.trained(
        name, tmp_path / "evaluated", "TEST.NO_TEST", False, "TEST.FINAL_MODEL", "best_val"
    )
    evaluated.load_model(str(tmp_path / "evaluated"), epoch=3)
    workers = learned(world.trained(name, tmp_path / "workers", "DATALOADER.NUM_WORKERS", 2))
    saving = ("TRAIN.CHECKPOINT_FREQ", 1)
    interrupted = world.build(name, tmp_path / "resumed", *saving)
    interrupted.max_epoch = 2
    interrupted.train()
    resumed = learned(world.trained(name, tmp_path / "resumed", *saving))
    for key, value in straight.items():
        assert torch.equal(value, learned(evaluated)[key]), f"evaluation changed {key}"
        assert torch.equal(value, workers[key]), f"workers changed {key}"
        assert torch.equal(value, resumed[key]), f"the interruption changed {key}"


def test_testing_encodes_the_class_list_once(world, tmp_path, monkeypatch):
    trainer = world.build("TextRefinerCoOp", tmp_path, "DATALOADER.TEST.BATCH_SIZE", 1)
    calls, original = [], trainer.model.learner.encode_text
    monkeypatch.setattr(
        trainer.model.learner, "encode_text", lambda *a: (calls.append(1), original(*a))[1]
    )
    trainer.test()
    assert len(trainer.test_loader) > 1
    assert len(calls) == 1
    trainer.model_inference(torch.randn(1, 3, 32, 32))
    assert len(calls) == 2, "outside test() nothing stale may be used"


def test_refined_equals_plain_when_the_refiner_is_disabled(world, tmp_path):
    switches = ["CACHE", "LOCAL", "REG"]
    off = [part for key in switches for part in (f"TRAINER.TEXTREFINER.{key}", False)]
    refined = world.build("TextRefinerCoOp", tmp_path / "a", "TRAINER.TEXTREFINER.ALPHA", 0.0, *off)
    plain = world.build("CoOp", tmp_path / "b")
    refined.train()
    plain.train()
    key = "prompt_learner.ctx"
    torch.testing.assert_close(learned(refined)[key], learned(plain)[key])


@pytest.mark.parametrize(
    ("switch", "value", "names"),
    [
        ("CACHE", "CACHE_SIZE", {"ce", "semantic", "regularizer"}),
        ("LOCAL", "LOCAL_WEIGHT", {"ce", "regularizer"}),
        ("REG", "REG_WEIGHT", {"ce", "semantic"}),
    ],
)
def test_each_part_can_be_disabled(world, switch, value, names, tmp_path):
    trained = []
    for key, off in ((switch, False), (value, 0)):
        setting = (f"TRAINER.TEXTREFINER.{key}", off)
        trained.append(world.trained("TextRefinerCoOp", tmp_path / key, *setting))
    for key, tensor in learned(trained[0]).items():
        assert torch.equal(tensor, learned(trained[1])[key]), key
    trainer = trained[0]
    cache = trainer.model.refiner.cache.entries
    assert cache.shape[0] == (0 if switch == "CACHE" else 25)
    batch = {"img": torch.randn(4, 3, 32, 32), "label": torch.tensor([0, 1, 2, 0])}
    assert trainer.model.training_step(batch).losses.keys() == names
    moved = trainer.model.refiner.cache.entries
    assert torch.equal(moved, cache) == (switch == "CACHE")


def test_aggregation_only_does_not_compute_local_tokens(world, tmp_path, monkeypatch):
    off = ["TRAINER.TEXTREFINER.CACHE", False, "TRAINER.TEXTREFINER.LOCAL", False]
    model = world.build("TextRefinerCoOp", tmp_path, *off).model
    requested, original = [], model.learner.encode_image

    def watched(image, local):
        requested.append(local)
        return original(image, local)

    monkeypatch.setattr(model.learner, "encode_image", watched)
    model.training_step({"img": torch.randn(2, 3, 32, 32), "label": torch.tensor([0, 1])})
    assert requested == [False]


@pytest.mark.parametrize(
    "zero", ["CACHE_SIZE", "ALPHA", "MOMENTUM", "TOPK", "LOCAL_WEIGHT", "REG_WEIGHT"]
)
def test_zero_is_a_valid_value(world, zero, tmp_path):
    trainer = world.trained(
        "TextRefinerCoOp", tmp_path, f"TRAINER.TEXTREFINER.{zero}", 0, "OPTIM.MAX_EPOCH", 1
    )
    assert getattr(trainer.model.settings, zero.lower()) == 0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TRAINER.TEXTREFINER.CACHE_SIZE", -1, "CACHE_SIZE must be a whole number from 0"),
        ("TRAINER.TEXTREFINER.MOMENTUM", 1.5, "MOMENTUM must be a finite number in"),
        ("TRAINER.TEXTREFINER.ALPHA", float("nan"), "ALPHA must be a finite number"),
        ("TRAINER.TEXTREFINER.TOPK", 17, "TOPK is 17, but the backbone has 16 patches"),
        (
            "TRAINER.COOP.PREC",
            "fp61",
            "PREC must be one of fp32, amp, bf16, fp16.*did you mean 'fp16'",
        ),
        ("TRAINER.COOP.CLASS_TOKEN_POSITION", "last", "must be one of end, middle, front"),
    ],
)
def test_invalid_settings_raise(world, key, value, message, tmp_path):
    with pytest.raises((SettingsError, UsageError), match=message):
        world.build("TextRefinerCoOp", tmp_path, key, value)


def test_init_weights_start_the_prompts(world, tmp_path):
    trained = world.trained("TextRefinerCoOp", tmp_path / "a")
    file = tmp_path / "a" / "prompt_learner" / "model.pth.tar-3"
    started = world.build("TextRefinerCoOp", tmp_path / "b", "MODEL.INIT_WEIGHTS", str(file))
    key = "prompt_learner.ctx"
    assert torch.equal(learned(started)[key], learned(trained)[key])


@pytest.mark.parametrize("name", ["ZeroshotCLIP", "ZeroshotCLIP2"])
def test_zero_shot(world, name, tmp_path, capsys):
    trainer = world.build(name, tmp_path, "DATASET.SUBSAMPLE_CLASSES", "all")
    accuracy = trainer.test()
    assert 0 <= accuracy <= 100
    assert ("itap of a {}." in capsys.readouterr().out) == (name == "ZeroshotCLIP2")
    with pytest.raises(SettingsError, match="add --eval-only"):
        trainer.train()
    with pytest.raises(SettingsError, match="leave out --model-dir"):
        trainer.load_model("somewhere")


def test_zero_shot_names_longer_than_the_context_raise(world):
    with pytest.raises(SettingsError, match="class name is too long for 'a photo of a"):
        template_features(toy_clip(), ["a photo of a {}."], ["cat " * 80])


def test_a_refiner_requires_settings(world, tmp_path):
    model = world.build("TextRefinerCoOp", tmp_path).model
    with pytest.raises(ValueError, match="a refiner requires settings"):
        RefinedCLIP(model.learner, model.refiner)


def test_a_model_without_a_directory_keeps_its_weights(world, tmp_path, capsys):
    trainer = world.build("CoOp", tmp_path)
    before = learned(trainer)["prompt_learner.ctx"]
    trainer.load_model("")
    assert torch.equal(learned(trainer)["prompt_learner.ctx"], before)
    assert "the model keeps its initial weights" in capsys.readouterr().out
