"""Trainers: training, evaluation, selection, logs and errors."""

import io
import re
import sys

import pytest
import torch
from torch import nn

from dassl.config import get_cfg_default, merge_opts
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import (
    TRAINER_REGISTRY,
    SimpleNet,
    SimpleTrainer,
    TrainerBase,
    TrainerX,
    TrainerXU,
    build_trainer,
)
from dassl.engine.progress import EpochLog, bar
from dassl.modeling import build_backbone, build_head
from dassl.utils import NonFiniteLossError, UsageError, load_checkpoint, set_random_seed
from tests.dassl.coop_style import BATCHES, StubDataManager, StubDataset, ToyCoOp, toy_cfg
from tests.toy_data import write_image


class Quiet(ToyCoOp):
    """A trainer that keeps scalars in a list, since TensorBoard is slow to start."""

    def init_writer(self, log_dir):
        self.scalars = []

    def write_scalar(self, tag, scalar_value, global_step=None):
        if hasattr(self, "scalars"):
            self.scalars.append((tag, scalar_value, global_step))


def train(folder, *opts, cls=Quiet):
    set_random_seed(1)
    trainer = cls(toy_cfg(folder, *opts))
    trainer.train()
    return trainer


# a run


def test_training_improves_accuracy_and_writes_the_expected_files(tmp_path, capsys):
    trainer = train(tmp_path)
    out = capsys.readouterr().out
    assert out.startswith("Device: cpu (USE_CUDA is False)\n")
    block = (
        r"Finish training\nDeploy the last-epoch model\n"
        r"Selection rule: last_step \(epoch 4 of 4\)\n"
        r"Evaluate on the \*test\* set\n=> result\n\* total: 24\n\* correct: \d+\n"
        r"\* accuracy: \d+\.\d%\n\* error: \d+\.\d%\n\* macro_f1: \d+\.\d%\nElapsed: 0:00:0\d\n$"
    )
    assert re.search(block, out)
    assert trainer.test() > 60  # chance is a third
    for name in ("prompt_learner", "backbone"):
        files = {path.name for path in (tmp_path / name).iterdir()}
        assert files == {"checkpoint", *(f"model.pth.tar-{epoch}" for epoch in range(1, 5))}
        checkpoint = load_checkpoint(tmp_path / name / "model.pth.tar-4")
        keys = {"state_dict", "epoch", "optimizer", "scheduler", "val_result"}
        assert keys <= set(checkpoint)
        assert (checkpoint["epoch"], checkpoint["val_result"]) == (4, None)


def test_checkpoint_frequency(tmp_path):
    train(tmp_path, "TRAIN.CHECKPOINT_FREQ", 3)
    names = sorted(path.name for path in (tmp_path / "backbone").glob("model*"))
    assert names == ["model.pth.tar-3", "model.pth.tar-4"]
    train(tmp_path / "last", "TRAIN.CHECKPOINT_FREQ", 0)
    assert [p.name for p in (tmp_path / "last" / "backbone").glob("model*")] == ["model.pth.tar-4"]


def test_no_test_skips_the_test(tmp_path, capsys):
    train(tmp_path, "TEST.NO_TEST", True, "TEST.FINAL_MODEL", "best_val")
    out = capsys.readouterr().out
    assert "Finish training" in out
    assert "=> result" not in out
    assert not (tmp_path / "backbone" / "model-best.pth.tar").exists()


def test_hooks_run_in_order_and_loaders_get_the_epoch(tmp_path):
    calls = []

    class Watched(Quiet):
        def make_data_manager(self):
            dm = StubDataManager()
            dm.set_epoch = lambda epoch: calls.append(f"set {epoch}")
            return dm

    for hook in ("before_train", "before_epoch", "run_epoch", "after_epoch", "after_train"):

        def wrapped(self, hook=hook):
            calls.append(hook)
            getattr(super(Watched, self), hook)()

        setattr(Watched, hook, wrapped)
    train(tmp_path, "OPTIM.MAX_EPOCH", 2, cls=Watched)
    epoch = ["before_epoch", "run_epoch", "set {}", "after_epoch"]
    expected = ["before_train", *(c.format(0) for c in epoch), *(c.format(1) for c in epoch)]
    assert calls == [*expected, "after_train"]


def test_trainer_without_a_data_manager(tmp_path):
    class Bare(Quiet):
        def build_data_loader(self):
            super().build_data_loader()
            del self.dm

    assert train(tmp_path, "TEST.FINAL_MODEL", "best_val", cls=Bare).best_epoch > 0


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = train(tmp_path, "OPTIM.MAX_EPOCH", 2, "TEST.FINAL_MODEL", "best_val", cls=ToyCoOp)
    assert trainer._writer is None
    trainer.write_scalar("after/closing", 1.0, 0)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = {"train/loss", "train/acc", "train/lr", "val/accuracy", "val/macro_f1", "test/accuracy"}
    assert tags <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("train/loss")] == list(range(2 * BATCHES))
    lrs = [event.value for event in events.Scalars("train/lr")]
    assert lrs == pytest.approx([1e-5] * BATCHES + [0.05] * BATCHES)


def test_error_closes_the_writer(tmp_path):
    class Failing(Quiet):
        closed = False

        def run_epoch(self):
            raise RuntimeError("boom")

        def close_writer(self):
            self.closed = True

    trainer = Failing(toy_cfg(tmp_path))
    with pytest.raises(RuntimeError, match="boom"):
        trainer.train()
    assert trainer.closed


# which model is tested


class NoVal(Quiet):
    """A dataset without a val split."""

    def build_data_loader(self):
        super().build_data_loader()
        self.val_loader = None


class ValIsTest(Quiet):
    """A dataset with the same images for val and test, as in ImageNet."""

    def make_data_manager(self):
        dm = StubDataManager()
        dm.dataset = StubDataset(val="test")
        return dm


def test_best_val_tests_the_best_epoch(tmp_path, capsys):
    class Second(Quiet):
        """A trainer that is best in the second epoch."""

        def test(self, split=None):
            result = super().test(split)
            return {0: 50.0, 1: 70.0}.get(self.epoch, 70.0) if split == "val" else result

    trainer = train(tmp_path, "TEST.FINAL_MODEL", "best_val", cls=Second)
    out = capsys.readouterr().out
    assert "Deploy the model with the best val performance" in out
    assert "to backbone (epoch=2, val_result=70.0)" in out
    assert "Selection rule: best_val (epoch 2 of 4, 70.0% on val images)" in out
    best = load_checkpoint(tmp_path / "backbone" / "model-best.pth.tar")
    assert (best["epoch"], best["val_result"], best["best_result"]) == (2, 70.0, 70.0)
    weights = trainer.model.backbone.state_dict()
    assert all(torch.equal(value, best["state_dict"][key]) for key, value in weights.items())


@pytest.mark.parametrize(
    ("cls", "reason"),
    [(NoVal, "has no val split"), (ValIsTest, "has 8 of its val images also in test")],
)
def test_best_val_does_not_select_on_test_images_without_permission(tmp_path, capsys, cls, reason):
    opts = ("TEST.FINAL_MODEL", "best_val")
    message = f"{reason}.*TEST.FINAL_MODEL last_step, or TEST.SELECT_ON_TEST True"
    with pytest.raises(UsageError, match=message):
        train(tmp_path, *opts, cls=cls)
    assert list(tmp_path.iterdir()) == []
    capsys.readouterr()
    train(tmp_path, *opts, "TEST.SELECT_ON_TEST", True, cls=cls)
    out = capsys.readouterr().out
    assert f"{reason}" in out
    assert "the best epoch is selected on TEST images" in out
    assert re.search(
        r"best_val \(epoch \d of 4, .*% on TEST images because of TEST\.SELECT_ON_TEST", out
    )


@pytest.mark.parametrize("cls", [NoVal, ValIsTest])
def test_last_step_needs_no_val(tmp_path, cls):
    train(tmp_path, cls=cls)
    cls(toy_cfg(tmp_path, "TEST.FINAL_MODEL", "best_val")).test()  # evaluation selects nothing


def test_evaluation_splits(tmp_path, capsys):
    Quiet(toy_cfg(tmp_path, "TEST.SPLIT", "val")).test()
    assert "Evaluate on the *val* set" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"the dataset has no val split .*TEST\.SPLIT"):
        NoVal(toy_cfg(tmp_path)).test(split="val")
    with pytest.raises(UsageError, match=r"TEST\.SPLIT is val, but the dataset has no val split"):
        NoVal(toy_cfg(tmp_path, "TEST.SPLIT", "val"))
    NoVal(toy_cfg(tmp_path, "TEST.SPLIT", "val", "TEST.NO_TEST", True))  # nothing is tested


def test_evaluation_does_not_change_random_states_and_gradients(tmp_path):
    class Drawing(Quiet):
        def model_inference(self, input):
            torch.rand(3)
            output = self.model(input)
            assert not output.requires_grad
            return output

    trainer = Drawing(toy_cfg(tmp_path))
    before = torch.get_rng_state()
    trainer.test()
    assert torch.equal(torch.get_rng_state(), before)
    assert not trainer.model.backbone.training


# loading


def test_load_model_by_epoch_or_the_best(tmp_path, capsys):
    train(tmp_path, "TEST.FINAL_MODEL", "best_val")
    trainer = Quiet(toy_cfg(tmp_path))
    for epoch, name in ((2, "model.pth.tar-2"), (None, "model-best.pth.tar")):
        trainer.load_model(str(tmp_path), epoch=epoch)
        saved = load_checkpoint(tmp_path / "prompt_learner" / name)["state_dict"]
        assert torch.equal(trainer.model.prompt_learner.weight, saved["weight"])
    capsys.readouterr()
    trainer.load_model(str(tmp_path), epoch=2)
    assert "model.pth.tar-2 to backbone (epoch=2)\n" in capsys.readouterr().out


def test_load_model_lists_available_checkpoints(tmp_path):
    train(tmp_path, "OPTIM.MAX_EPOCH", 2)
    trainer = Quiet(toy_cfg(tmp_path))
    there = r"model\.pth\.tar-1, model\.pth\.tar-2"
    with pytest.raises(UsageError, match=rf"no model\.pth\.tar-7 in .*has {there}\); .*another"):
        trainer.load_model(str(tmp_path), epoch=7)
    with pytest.raises(UsageError, match=rf"no model-best.* \(it has {there}\); name an epoch"):
        trainer.load_model(str(tmp_path))
    with pytest.raises(UsageError, match="no such folder"):
        trainer.load_model(str(tmp_path / "nowhere"))


def test_load_model_with_mismatched_weights_raises(tmp_path):
    train(tmp_path, "OPTIM.MAX_EPOCH", 1)
    trainer = Quiet(toy_cfg(tmp_path))
    trainer._models["backbone"] = nn.Linear(1, 1)
    with pytest.raises(UsageError, match=r"backbone in .* does not fit this run"):
        trainer.load_model(str(tmp_path), epoch=1)


def test_load_model_without_a_checkpoint_raises(tmp_path, capsys):
    Quiet(toy_cfg(tmp_path)).load_model("")
    TrainerBase().load_model(str(tmp_path))
    out = capsys.readouterr().out
    assert "Nothing is loaded: no model directory is set" in out
    assert "Nothing is loaded: no model is registered" in out


# registered models


def test_register_names_and_modes(tmp_path):
    trainer = Quiet(toy_cfg(tmp_path))
    assert trainer.get_model_names() == ["prompt_learner", "backbone"]
    assert trainer.get_model_names("backbone") == ["backbone"]
    with pytest.raises(KeyError, match="already registered as 'backbone'"):
        trainer.register_model("backbone", nn.Identity())
    with pytest.raises(UsageError, match="unknown model 'backbon': did you mean 'backbone'"):
        trainer.get_model_names(["backbon"])
    for mode, training in (("eval", False), ("train", True), ("test", False)):
        trainer.set_model_mode(mode)
        assert trainer.model.backbone.training is training
    trainer.set_model_mode("train", names="backbone")
    assert (trainer.model.backbone.training, trainer.model.prompt_learner.training) == (True, False)
    with pytest.raises(UsageError, match="unknown mode 'evaluate'"):
        trainer.set_model_mode("evaluate")


def test_steps_update_only_the_named_models():
    trainer = TrainerBase()
    models = {name: nn.Linear(1, 1, bias=False) for name in ("a", "b")}
    for name, model in models.items():
        nn.init.ones_(model.weight)
        trainer.register_model(name, model, torch.optim.SGD(model.parameters(), lr=0.5))
    loss = sum(model(torch.ones(1, 1)).sum() for model in models.values())
    trainer.model_backward_and_update(loss, names="a")
    assert (models["a"].weight.item(), models["b"].weight.item()) == (0.5, 1.0)
    assert trainer.get_current_lr("b") == 0.5
    trainer.update_lr()  # no schedule: nothing happens
    trainer.register_model("frozen", nn.Identity())
    assert trainer.get_current_lr() == 0.5
    with pytest.raises(UsageError, match="no learning rate"):
        trainer.get_current_lr("frozen")


def test_missing_methods_of_a_trainer_raise():
    trainer = TrainerBase()
    methods = ("parse_batch_train", "parse_batch_test", "forward_backward", "model_inference")
    for call in (trainer.run_epoch, trainer.test, *(getattr(trainer, name) for name in methods)):
        with pytest.raises(NotImplementedError):
            call(None) if call.__name__ in methods else call()
    with pytest.raises(NotImplementedError):
        TrainerXU.forward_backward(trainer, None, None)


def test_build_trainer(tmp_path, capsys):
    TRAINER_REGISTRY.register(Quiet, force=True, name="ToyCoOp")
    cfg = toy_cfg(tmp_path, "TRAINER.NAME", "ToyCoOp", "VERBOSE", True)
    assert isinstance(build_trainer(cfg), Quiet)
    assert "Loading trainer: ToyCoOp" in capsys.readouterr().out
    with pytest.raises(UsageError, match="no trainer is registered as 'ToyCoop': did you mean"):
        build_trainer(toy_cfg(tmp_path, "TRAINER.NAME", "ToyCoop"))


# settings


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TEST.FINAL_MODEL", "best", r"FINAL_MODEL 'best' is unknown: did you mean 'best_val'"),
        ("TEST.SPLIT", "train", r"TEST\.SPLIT 'train' is unknown: .*allowed: test, val"),
        ("TRAIN.PRINT_FREQ", 0, r"TRAIN\.PRINT_FREQ must be a whole number from 1 .* got 0"),
        ("OPTIM.MAX_EPOCH", 0, r"OPTIM\.MAX_EPOCH must be a whole number from 1 .* got 0"),
        ("OPTIM.LR", -0.1, r"OPTIM\.LR must be a number from 0 to .* got -0\.1"),
        ("OPTIM.LR", float("nan"), r"OPTIM\.LR must be a number from 0 to .* got nan"),
        ("OPTIM.MOMENTUM", -0.5, r"OPTIM\.MOMENTUM must be at least 0 and less than 1, got -0\.5"),
        ("OPTIM.WEIGHT_DECAY", -1, r"OPTIM\.WEIGHT_DECAY must be a number from 0 to .* got -1\.0"),
        ("OPTIM.ADAM_BETA1", 1.0, r"OPTIM\.ADAM_BETA1 must be at least 0 and less than 1, got 1"),
        ("OPTIM.ADAM_BETA2", -0.1, r"OPTIM\.ADAM_BETA2 must be at least 0 and less than 1"),
        ("DATALOADER.NUM_WORKERS", -1, r"NUM_WORKERS must be a whole number from 0 .* got -1"),
        (
            "DATALOADER.TRAIN_X.BATCH_SIZE",
            0,
            r"TRAIN_X\.BATCH_SIZE must be a whole .* got 0",
        ),
        (
            "DATALOADER.TRAIN_U.BATCH_SIZE",
            0,
            r"TRAIN_U\.BATCH_SIZE must be a whole .* got 0",
        ),
        (
            "DATALOADER.TEST.BATCH_SIZE",
            -2,
            r"TEST\.BATCH_SIZE must be a whole .* got -2",
        ),
        ("INPUT.SIZE", (32,), r"INPUT\.SIZE must be two whole numbers .*got \(32,\)"),
        ("INPUT.SIZE", (32, 0), r"INPUT\.SIZE must be two whole numbers"),
        ("INPUT.SIZE", (32, 8.5), r"INPUT\.SIZE must be two whole numbers"),
        ("INPUT.RRCROP_SCALE", (0.0, 1.0), r"RRCROP_SCALE must be two numbers a, b with 0 < a"),
        ("INPUT.RRCROP_SCALE", (0.9, 0.5), r"RRCROP_SCALE must be .*got \(0\.9, 0\.5\)"),
        ("INPUT.RRCROP_SCALE", (0.5, 1.5), r"RRCROP_SCALE must be two numbers"),
        ("INPUT.RRCROP_SCALE", (0.5,), r"RRCROP_SCALE must be two numbers"),
        ("INPUT.PIXEL_MEAN", [0.5, 0.5], r"PIXEL_MEAN must be three numbers, got \[0\.5, 0\.5\]"),
        ("INPUT.PIXEL_MEAN", [0.5, "a", 0.5], r"PIXEL_MEAN must be three numbers"),
        ("INPUT.PIXEL_STD", [1.0, 0.0, 1.0], r"PIXEL_STD must be three positive numbers"),
        ("INPUT.PIXEL_STD", [1.0], r"PIXEL_STD must be three positive numbers"),
    ],
)
def test_invalid_settings_raise(tmp_path, key, value, message):
    with pytest.raises(UsageError, match=message):
        Quiet(toy_cfg(tmp_path, key, value))


@pytest.mark.parametrize("size", [2, 4])
def test_gaussian_blur_needs_an_odd_kernel(tmp_path, size):
    even = ("INPUT.GB_K", size)
    with pytest.raises(UsageError, match=rf"INPUT\.GB_K must be an odd number .*got {size}"):
        Quiet(toy_cfg(tmp_path, "INPUT.TRANSFORMS", ("gaussian_blur",), *even))
    Quiet(toy_cfg(tmp_path, *even))  # a kernel that is not used


def test_epoch_without_batches_raises(tmp_path):
    class Empty(Quiet):
        def make_data_manager(self):
            dm = StubDataManager()
            dm.train_loader_x.batches = 0
            return dm

    with pytest.raises(UsageError, match=r"an epoch has no batch: .*BATCH_SIZE 32"):
        train(tmp_path, cls=Empty)


def test_the_device_is_chosen_once_and_logged(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Quiet(toy_cfg(tmp_path, "USE_CUDA", True)).device.type == "cpu"
    assert "Device: cpu (no CUDA device found)" in capsys.readouterr().out

    class Planned(Quiet):
        def build_model(self):
            """Return a device that does not exist."""

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert Planned(toy_cfg(tmp_path, "USE_CUDA", True)).device.type == "cuda"
    assert "Device: cuda (a GPU)" in capsys.readouterr().out
    assert Planned(toy_cfg(tmp_path, "USE_CUDA", False)).device.type == "cpu"


# what is out of scope


def test_out_of_scope_names_raise_a_clear_error(tmp_path):
    cfg = toy_cfg(tmp_path)

    class NoModel(Quiet):
        build_model = SimpleTrainer.build_model

    for build in (
        lambda: SimpleNet(cfg, cfg.MODEL, 3),
        lambda: build_backbone("resnet50", verbose=False, pretrained=True),
        lambda: build_head("mlp", verbose=False, in_features=3),
        lambda: NoModel(cfg),
    ):
        with pytest.raises(UsageError, match="is out of scope: this dassl is for CLIP prompt"):
            build()


# what an epoch prints


LINE = re.compile(
    r"epoch \[(\d)/4\] batch \[(\d)/(\d)\] time \d+\.\d{3} \(\d+\.\d{3}\) "
    r"data \d+\.\d{3} \(\d+\.\d{3}\) loss \d\.\d{4} \(\d\.\d{4}\) acc [\d.]+ \([\d.]+\) "
    r"lr (\d\.\d{4}e-\d\d) eta 0:00:\d\d$",
    re.MULTILINE,
)


def test_log_line_every_print_freq_steps(tmp_path, capsys):
    train(tmp_path)
    lines = LINE.findall(capsys.readouterr().out)
    assert [line[:3] for line in lines] == [(str(epoch), "2", "3") for epoch in range(1, 5)]
    assert [line[3] for line in lines[:2]] == ["1.0000e-05", "5.0000e-02"]


def test_short_epochs_log_every_step(tmp_path, capsys):
    train(tmp_path, "TRAIN.PRINT_FREQ", 5)
    lines = LINE.findall(capsys.readouterr().out)
    assert len(lines) == 4 * BATCHES
    assert {line[3] for line in lines[:BATCHES]} == {"1.0000e-05"}  # each step's own rate


def epoch_log(num_batches=4, print_freq=2, written=None):
    write = (lambda *scalar: written.append(scalar)) if written is not None else lambda *s: None
    return EpochLog(1, 3, num_batches, print_freq, lambda: 0.5, write)


def test_losses_are_read_only_when_a_line_is_printed(monkeypatch, capsys):
    reads = []
    to_float = torch.Tensor.__float__
    monkeypatch.setattr(torch.Tensor, "__float__", lambda t: reads.append(t) or to_float(t))
    written = []
    log = epoch_log(num_batches=5, print_freq=3, written=written)
    seen = []
    for number in log.watch(range(5)):
        log.step({"loss": torch.tensor(float(number))})
        seen.append((len(reads) > 0, len(written)))
    assert seen == [(False, 0), (False, 0), (True, 6), (True, 6), (True, 10)]
    losses = [scalar for scalar in written if scalar[0] == "train/loss"]
    assert losses == [("train/loss", step / 2, 5 + step) for step in range(5)]  # running average
    assert capsys.readouterr().out.count("epoch [2/3]") == 1


def test_eta_counts_all_remaining_steps():
    log = epoch_log(num_batches=10)
    log.batch_time.update(60.0)
    log.steps, log.lr = 4, 0.5
    assert str(log).endswith("eta 0:16:00")  # 6 of this epoch and 10 of the last


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_bar_is_only_shown_on_a_terminal(monkeypatch):
    stdout, stderr = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    assert list(bar(range(3), 3, "test")) == [0, 1, 2]
    assert "test:" in stderr.getvalue()
    assert stdout.getvalue() == ""
    stderr.truncate(0)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert list(bar(range(3), 3, "test")) == [0, 1, 2]
    assert stderr.getvalue() == ""


# losses that are not finite


def test_non_finite_loss_raises_before_the_step(tmp_path):
    class Exploding(Quiet):
        def forward_backward(self, batch):
            if (self.epoch, self.batch_idx) == (1, 2):
                self.before = self.model.prompt_learner.weight.clone()
                self.model_backward_and_update(self.model(batch["img"]).sum() * float("nan"))
            return super().forward_backward(batch)

    set_random_seed(1)
    trainer = Exploding(toy_cfg(tmp_path))
    message = r"loss is nan at epoch 2, step 6: try a lower OPTIM\.LR, fp32 instead of fp16"
    with pytest.raises(NonFiniteLossError, match=message):
        trainer.train()
    assert torch.equal(trainer.model.prompt_learner.weight, trainer.before)


def test_error_names_the_non_finite_loss():
    log = epoch_log()

    def run():
        for number in log.watch(range(4)):
            log.step({"loss": 1.0, "semantic": torch.tensor([0.0, float("inf")][number % 2])})

    with pytest.raises(NonFiniteLossError, match="semantic is inf at epoch 2, step 6"):
        run()


def test_detect_anomaly_accepts_a_name():
    with pytest.raises(NonFiniteLossError, match="kd is -inf"):
        TrainerBase().detect_anomaly(torch.tensor(float("-inf")), "kd")


# labeled and unlabeled batches


class ToyXU(Quiet, TrainerXU):
    """A trainer that counts its batches: 3 labeled and 2 unlabeled ones per epoch."""

    run_epoch = TrainerXU.run_epoch
    parse_batch_train = TrainerXU.parse_batch_train

    def forward_backward(self, batch_x, batch_u):
        image_x, label_x, image_u = self.parse_batch_train(batch_x, batch_u)
        self.pairs = [*getattr(self, "pairs", []), (self.batch_idx, image_x, image_u)]
        loss = nn.functional.cross_entropy(self.model(image_x), label_x)
        self.model_backward_and_update(loss)
        return {"loss": loss}


@pytest.mark.parametrize(("rule", "count"), [("train_x", 3), ("train_u", 2), ("smaller_one", 2)])
def test_labeled_and_unlabeled_batches_are_paired(tmp_path, rule, count):
    trainer = train(tmp_path, "TRAIN.COUNT_ITER", rule, "OPTIM.MAX_EPOCH", 1, cls=ToyXU)
    assert [index for index, _, _ in trainer.pairs] == list(range(count))
    assert trainer.num_batches == count
    unlabeled = list(trainer.train_loader_u)
    for index, _, image in trainer.pairs:
        assert torch.equal(image, unlabeled[index % 2]["img"])  # restarts at its end


def test_invalid_pair_settings_raise(tmp_path):
    with pytest.raises(UsageError, match=r"COUNT_ITER 'train_y' is unknown: did you mean 'train_"):
        train(tmp_path, "TRAIN.COUNT_ITER", "train_y", cls=ToyXU)

    class NoUnlabeled(ToyXU):
        def build_data_loader(self):
            super().build_data_loader()
            self.train_loader_u = None

    with pytest.raises(UsageError, match="NoUnlabeled needs unlabeled images"):
        train(tmp_path, cls=NoUnlabeled)


# on the data manager itself


class ImageTrainer(Quiet):
    """A trainer that reads image files with the data manager."""

    build_data_loader = TrainerX.build_data_loader
    parse_batch_train = TrainerX.parse_batch_train

    def build_model(self):
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, self.num_classes))
        optim = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.register_model("model", self.model, optim)

    def forward_backward(self, batch):
        image, label, domain = self.parse_batch_train(batch)
        assert domain.shape == label.shape
        loss = nn.functional.cross_entropy(self.model(image), label)
        self.model_backward_and_update(loss)
        return {"loss": loss}


@pytest.fixture
def image_set(tmp_path):
    """Register a dataset of 12 training and 6 test images in 2 classes."""

    @DATASET_REGISTRY.register(force=True)
    class EngineToy(DatasetBase):
        def __init__(self, cfg):
            items = []
            for number in range(18):
                path = tmp_path / f"{number}.png"
                write_image(path, number, size=8)
                items.append(Datum(str(path), number % 2, 0, f"class {number % 2}"))
            super().__init__(train_x=items[:12], test=items[12:])

    return "EngineToy"


def test_workers_do_not_change_the_trained_weights(tmp_path, image_set):
    trained = []
    for workers in (0, 2):
        cfg = get_cfg_default()
        settings = {
            "DATASET.NAME": image_set,
            "OUTPUT_DIR": str(tmp_path / f"workers {workers}"),
            "SEED": 1,
            "USE_CUDA": False,
            "INPUT.SIZE": (8, 8),
            "INPUT.TRANSFORMS": ("random_resized_crop", "random_flip", "normalize"),
            "DATALOADER.TRAIN_X.BATCH_SIZE": 4,
            "DATALOADER.NUM_WORKERS": workers,
            "OPTIM.MAX_EPOCH": 2,
        }
        merge_opts(cfg, [word for pair in settings.items() for word in pair])
        set_random_seed(1)
        trainer = ImageTrainer(cfg)
        trainer.train()
        assert (trainer.num_classes, trainer.val_loader, trainer.num_batches) == (2, None, 3)
        assert trainer.lab2cname == {0: "class 0", 1: "class 1"}
        trained.append(trainer.model[1].weight)
    assert torch.equal(*trained)
