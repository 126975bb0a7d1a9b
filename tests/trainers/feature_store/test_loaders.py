"""DATALOADER.FEATURE_STORE: which features are stored, their keys, and exclusions."""

import os
from pathlib import Path

import pytest
import torch
from torchvision.transforms import Compose, Lambda

from dassl.data import DatasetWrapper, data_manager
from tests.toy import save_toy_clip
from tests.trainers.toy_runs import ToyWorld, learned
from trainers.coop import CoOpLearner
from trainers.feature_store.features import image_encoder_of
from trainers.feature_store.loaders import use_feature_store

FROZEN = ["ZeroshotCLIP", "CoOp", "TextRefinerCoOp", "CoCoOp", "TextRefinerCoCoOp"]
FROZEN += ["KgCoOp", "TextRefinerKgCoOp", "TCP", "TextRefinerTCP"]
FROZEN += ["TaskRes", "TextRefinerTaskRes"]
FROZEN += ["CLIPAdapter", "TextRefinerCLIPAdapter"]
FROZEN += ["ATPrompt", "TextRefinerATPrompt"]
TRAINED_TOWER = ["MaPLe", "TextRefinerMaPLe", "PromptSRC", "PromptKD", "TextRefinerPromptKD"]
TRAINED_TOWER += ["MMRL", "TextRefinerMMRL"]
PLAIN = ["INPUT.TRANSFORMS", ("normalize",)]  # no augmentation
VIEWS = ["DATALOADER.VIEWS", 2]
BEST = ["TEST.FINAL_MODEL", "best_val", "TEST.NO_TEST", False]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


class Lab:
    """Runs with a feature store that count images read and images encoded."""

    def __init__(self, world: ToyWorld, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.folder = folder
        self.store = folder / "store"
        self.read = self.encoded = self.runs = 0
        read_image = data_manager.read_image

        def counted(path):
            self.read += 1
            return read_image(path)

        monkeypatch.setattr(data_manager, "read_image", counted)

    def build(self, name, *options, stored=True):
        store = ["DATALOADER.FEATURE_STORE", str(self.store)] if stored else []
        self.runs += 1
        trainer = self.world.build(name, self.folder / f"run{self.runs}", *store, *options)
        clip = trainer.clip_model if name == "ZeroshotCLIP" else trainer.model.learner.clip_model

        def count(module, inputs):
            self.encoded += len(inputs[0])

        clip.visual.ln_pre.register_forward_pre_hook(count)
        self.read = self.encoded = 0
        return trainer

    def entries(self):
        return sorted(self.store.glob("*")) if self.store.exists() else []

    def steps(self, trainer):
        """Train and return the losses of every step."""
        losses, original = [], trainer.forward_backward

        def recording(batch):
            summary = original(batch)
            losses.append({name: value.clone() for name, value in summary.items()})
            return summary

        trainer.forward_backward = recording
        trainer.train()
        return losses


@pytest.fixture
def lab(world, tmp_path, monkeypatch):
    return Lab(world, tmp_path, monkeypatch)


def evaluated(trainer, split=None):
    """Evaluate; return the logits and labels passed to the evaluator, and the result."""
    seen, process = [], trainer.evaluator.process

    def recording(logits, labels):
        seen.append((logits, labels))
        process(logits, labels)

    trainer.evaluator.process = recording
    result = trainer.test(split)
    trainer.evaluator.process = process
    logits, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
    return logits, labels, result


def assert_equal(first, second):
    for a, b in zip(first[:2], second[:2], strict=True):
        assert torch.equal(a, b)
    assert first[2:] == second[2:]


@pytest.mark.parametrize("name", [*FROZEN, *TRAINED_TOWER])
def test_second_evaluation_reads_no_images_and_is_identical(lab, name, capsys):
    unstored = evaluated(lab.build(name, stored=False))
    assert lab.entries() == []
    first = evaluated(lab.build(name))
    assert (lab.read, lab.encoded) == (12, 12)
    assert "computed 12 image features" in capsys.readouterr().out
    second = evaluated(lab.build(name))
    assert (lab.read, lab.encoded) == (0, 0)
    assert f"reused 12 image features from {lab.entries()[0]}" in capsys.readouterr().out
    assert_equal(first, second)
    assert_equal(first, unstored)


def test_methods_and_seeds_share_features(lab):
    lab.build("ZeroshotCLIP").test()
    for name in ("CoOp", "TextRefinerCoCoOp"):
        for seed in (1, 2):
            lab.build(name, "SEED", seed).test()
            assert lab.encoded == 0
    assert len(lab.entries()) == 1


def other_weights(lab):
    path = save_toy_clip(lab.folder / "other.pt", seed=5)
    return ["MODEL.BACKBONE.NAME", str(path)]


def other_transform(lab):
    return ["INPUT.INTERPOLATION", "bilinear"]


def other_normalization(lab):
    return ["INPUT.PIXEL_STD", [0.3, 0.3, 0.3]]


def other_list(lab):
    return ["DATASET.SUBSAMPLE_CLASSES", "new"]


@pytest.mark.parametrize(
    "change", [other_weights, other_transform, other_normalization, other_list]
)
def test_changes_that_affect_features_are_detected(lab, change):
    lab.build("CoOp").test()
    changed = evaluated(lab.build("CoOp", *change(lab)))
    assert lab.encoded == 12
    assert_equal(changed, evaluated(lab.build("CoOp", *change(lab), stored=False)))
    assert len(lab.entries()) == 2


def test_modified_file_is_detected(lab, capsys):
    trainer = lab.build("CoOp")
    trainer.test()
    path = trainer.dm.dataset.test[3].impath
    status = os.stat(path)
    try:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        lab.build("CoOp").test()
    finally:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert lab.encoded == 12
    assert "is outdated: image files have changed" in capsys.readouterr().out
    lab.build("CoOp").test()
    assert lab.encoded == 0


def test_models_with_different_weights_do_not_share_features(lab):
    first = evaluated(lab.build("MaPLe", "SEED", 1))
    second = evaluated(lab.build("MaPLe", "SEED", 2))
    assert lab.encoded == 12
    assert not torch.equal(first[0], second[0])
    assert_equal(second, evaluated(lab.build("MaPLe", "SEED", 2, stored=False)))


def test_selection_runs_a_frozen_encoder_once(lab):
    straight = lab.build("CoOp", *BEST, stored=False)
    straight.train()
    trainer = lab.build("CoOp", *BEST)
    trainer.train()
    assert lab.encoded == 3 * 12 + 12 + 12  # training, val once, test once
    assert trainer.best_epoch == straight.best_epoch
    assert trainer.last_test == straight.last_test
    assert torch.equal(
        learned(trainer)["prompt_learner.ctx"], learned(straight)["prompt_learner.ctx"]
    )


def test_selection_does_not_store_features_of_a_trained_encoder(lab, capsys):
    lab.build("MaPLe", *BEST).train()
    out = capsys.readouterr().out
    assert "used to test a finished model; MaPLe trains its image encoder" in out
    assert len(lab.entries()) == 1
    assert out.index("Deploy the model with the best val") < out.index("computed 12 image features")


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("CoOp", PLAIN),
        ("TextRefinerCoOp", [*VIEWS, "DATALOADER.TRAIN_X.BATCH_SIZE", 5]),  # 12 = 5 + 5 + 2
        ("TextRefinerCoCoOp", VIEWS),
    ],
)
def test_training_on_stored_features_equals_training_without_a_store(lab, name, setting):
    # Bit-identical on a CPU, since features are computed in batches of the same size.
    unstored = lab.build(name, *setting, stored=False)
    expected = lab.steps(unstored)
    first = lab.build(name, *setting)
    computed = lab.steps(first)
    assert len(lab.entries()) == (1 if setting is PLAIN else 2)
    size = first.train_loader_x.batch_size
    assert lab.encoded == -(-12 // size) * size * len(lab.entries())
    second = lab.build(name, *setting)
    reused = lab.steps(second)
    assert (lab.read, lab.encoded) == (0, 0)
    for losses, again, reference in zip(computed, reused, expected, strict=True):
        assert losses.keys() == reference.keys()
        for key, value in reference.items():
            assert torch.equal(losses[key], value)
            assert torch.equal(again[key], value)
    for key, value in learned(unstored).items():
        assert torch.equal(learned(first)[key], value)
        assert torch.equal(learned(second)[key], value)


@pytest.mark.parametrize("setting", [PLAIN, VIEWS], ids=["no augmentation", "views"])
def test_teacher_encodes_each_image_once(lab, setting):
    expected = lab.steps(lab.build("TextRefinerPromptKD", *setting, stored=False))
    for seen in (12, 0):
        trainer, encoded = lab.build("TextRefinerPromptKD", *setting), []
        visual = trainer.model.learner.teacher.clip_model.visual
        visual.ln_pre.register_forward_pre_hook(lambda _, x, encoded=encoded: encoded.extend(x[0]))
        losses = lab.steps(trainer)
        views = 1 if setting is PLAIN else 2
        assert len(encoded) == seen * views
        assert lab.encoded == 36  # the student's
        for step, reference in zip(losses, expected, strict=True):
            for key, value in reference.items():
                assert torch.equal(step[key], value)


def test_fresh_augmentations_are_not_stored(lab, capsys):
    expected = lab.steps(lab.build("CoOp", stored=False))
    trainer = lab.build("CoOp")
    assert lab.steps(trainer) == expected
    assert lab.encoded == 36
    assert lab.entries() == []
    assert "training images are augmented differently in every epoch" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["MaPLe", "PromptSRC"])
def test_trained_encoder_is_not_stored(lab, name):
    expected = lab.steps(lab.build(name, *PLAIN, stored=False))
    assert lab.steps(lab.build(name, *PLAIN)) == expected
    assert lab.encoded >= 36
    assert lab.entries() == []


def test_interrupted_run_on_views_is_identical(lab):
    options = [*VIEWS, "TRAIN.CHECKPOINT_FREQ", 1]
    straight = lab.build("TextRefinerCoOp", *options, "OUTPUT_DIR", str(lab.folder / "straight"))
    straight.train()
    folder = ["OUTPUT_DIR", str(lab.folder / "resumed")]
    interrupted = lab.build("TextRefinerCoOp", *options, *folder)
    interrupted.max_epoch = 1
    interrupted.train()
    resumed = lab.build("TextRefinerCoOp", *options, *folder)
    resumed.train()
    for key, value in learned(straight).items():
        assert torch.equal(learned(resumed)[key], value)


@pytest.mark.parametrize("precision", ["fp32", "amp"])
def test_precisions_do_not_share_features(lab, precision):
    options = [*PLAIN, "TRAINER.COOP.PREC", precision]
    lab.steps(lab.build("TextRefinerCoOp", *PLAIN, "TRAINER.COOP.PREC", "fp32"))
    expected = lab.steps(lab.build("TextRefinerCoOp", *options, stored=False))
    stored = lab.steps(lab.build("TextRefinerCoOp", *options))
    assert lab.encoded == (0 if precision == "fp32" else 12)
    for losses, reference in zip(stored, expected, strict=True):
        for key, value in reference.items():
            assert torch.equal(losses[key], value)


def test_learner_with_a_custom_encode_image_is_not_treated_as_frozen(lab):
    with pytest.raises(TypeError, match="Silent overrides encode_image: set frozen_image_encoder"):
        type("Silent", (CoOpLearner,), {"encode_image": CoOpLearner.encode_image})

    class Adapted(CoOpLearner):
        frozen_image_encoder = False

        def encode_image(self, image, local):
            return super().encode_image(image, local)

    learner = lab.build("CoOp").model.learner
    assert image_encoder_of(learner).frozen
    adapted = image_encoder_of(Adapted(learner.clip_model, learner.prompts))
    assert not adapted.frozen
    assert adapted.trainable_modules == {"prompt_learner": learner.prompts}


class OwnWrapper(DatasetWrapper):
    pass


def a_wrapper(trainer):
    trainer.test_loader.dataset.__class__ = OwnWrapper
    return "OwnWrapper reads images in its own way"


def a_transform(trainer):
    trainer.test_loader.dataset.transform = Compose([Lambda(lambda image: image)])
    return "the settings of a transform are unknown"


@pytest.mark.parametrize("change", [a_wrapper, a_transform])
def test_images_that_cannot_be_identified_are_not_stored(lab, change, capsys):
    trainer = lab.build("CoOp", stored=False)
    reason = change(trainer)
    trainer.cfg.defrost()
    trainer.cfg.DATALOADER.FEATURE_STORE = str(lab.store)
    loader = trainer.test_loader
    use_feature_store(trainer, image_encoder_of(trainer.model.learner), False)
    assert trainer.test_loader is loader
    assert reason in capsys.readouterr().out
