"""A resumed run is bit-identical to an uninterrupted one."""

import shutil
from contextlib import nullcontext

import pytest
import torch

from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    UsageError,
    get_random_state,
    load_checkpoint,
    resume_from_checkpoint,
    set_random_seed,
)
from tests.dassl.coop_style import CLASSES, ToyCoOp, toy_cfg

EPOCHS = 4
NO_EVALUATION = ("TEST.NO_TEST", True)
BEST_VAL = ("TEST.FINAL_MODEL", "best_val")


class Interrupted(Exception):
    pass


class Interruptible(ToyCoOp):
    """A trainer that stops before step `stop_at` (epoch, batch), or at the end of an epoch."""

    stop_at = None

    def init_writer(self, log_dir):
        """Do not start TensorBoard, which is slow."""

    def forward_backward(self, batch):
        if self.stop_at == (self.epoch, self.batch_idx):
            raise Interrupted
        return super().forward_backward(batch)

    def after_epoch(self):
        if self.stop_at == (self.epoch, "after epoch"):
            raise Interrupted
        super().after_epoch()


def start(folder, *opts, seed=1, stop_at=None):
    """Seed, build and train a trainer until `stop_at`, as in a new process."""
    set_random_seed(seed)
    trainer = Interruptible(toy_cfg(folder, *opts))
    trainer.stop_at = stop_at
    if stop_at is None:
        trainer.train()
    else:
        with pytest.raises(Interrupted):
            trainer.train()
    return trainer


def learned(folder, name="model.pth.tar-4"):
    """Return the contents of a run's checkpoints and, separately, their random states."""
    parts = {
        model: load_checkpoint(folder / model / name) for model in ("prompt_learner", "backbone")
    }
    states = [part.pop("random_state") for part in parts.values()]
    return parts, states[0]


def assert_same(a, b):
    """Return whether two nested containers are bit-identical."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@pytest.fixture(scope="module", params=[NO_EVALUATION, BEST_VAL], ids=["no evaluation", "best_val"])
def whole(request, tmp_path_factory):
    """Return the settings and checkpoints of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    start(folder, *request.param)
    return request.param, learned(folder)


STOPS = [(epoch, at) for epoch in range(EPOCHS) for at in (0, 1, "after epoch")]


@pytest.mark.parametrize("stop_at", STOPS)
def test_run_interrupted_at_any_step_is_identical(whole, tmp_path, stop_at):
    opts, expected = whole
    start(tmp_path, *opts, stop_at=stop_at)
    again = start(tmp_path, *opts, seed=99 if stop_at[0] else 1)  # the states are the file's
    assert again.start_epoch == stop_at[0]
    assert_same(learned(tmp_path), expected)


def test_run_interrupted_after_every_epoch_is_identical(whole, tmp_path):
    opts, expected = whole
    for epoch in range(1, EPOCHS):
        start(tmp_path, *opts, seed=epoch if epoch > 1 else 1, stop_at=(epoch, 0))
    start(tmp_path, *opts)
    assert_same(learned(tmp_path), expected)


def test_resume_from_the_best_checkpoint_only(whole, tmp_path):
    """Without CHECKPOINT_FREQ, training resumes from the last best checkpoint."""
    opts, expected = whole
    rare = (*opts, "TRAIN.CHECKPOINT_FREQ", 0)
    start(tmp_path, *rare, stop_at=(3, 1))
    start(tmp_path, *rare)
    assert_same(learned(tmp_path), expected)


@pytest.mark.parametrize("frequency", [0, 1])
@pytest.mark.parametrize("epoch", [2, EPOCHS])
def test_interruption_between_the_best_and_the_epoch_checkpoint(tmp_path, epoch, frequency):
    class StopsAfterBest(Interruptible):
        """Improves in every epoch and stops after saving the best checkpoint of `epoch`."""

        stops = True

        def test(self, split=None):
            super().test(split)
            return float(self.epoch)

        def save_model(self, index, directory, *args, model_name="", **kwargs):
            super().save_model(index, directory, *args, model_name=model_name, **kwargs)
            if self.stops and model_name and index + 1 == epoch:
                raise Interrupted

    class Whole(StopsAfterBest):
        stops = False

    opts = (*BEST_VAL, "TRAIN.CHECKPOINT_FREQ", frequency)
    for folder, trainers in (("whole", [Whole]), ("cut", [StopsAfterBest, Whole])):
        for cls in trainers:
            set_random_seed(1)
            trainer = cls(toy_cfg(tmp_path / folder, *opts))
            with pytest.raises(Interrupted) if cls is StopsAfterBest else nullcontext():
                trainer.train()
    whole, cut = (
        {p.relative_to(tmp_path / folder) for p in (tmp_path / folder).rglob("model*")}
        for folder in ("whole", "cut")
    )
    assert cut == whole
    for name in {path.name for path in whole}:
        expected, got = (learned(tmp_path / folder, name) for folder in ("whole", "cut"))
        assert_same(got, expected)


def test_evaluation_does_not_change_the_training(tmp_path):
    start(tmp_path / "without", *NO_EVALUATION)
    start(tmp_path / "with", *BEST_VAL)
    (without, states_without), (with_, states_with) = (
        learned(tmp_path / name) for name in ("without", "with")
    )
    for name in without:
        for key in ("state_dict", "optimizer", "scheduler", "epoch"):
            assert_same(without[name][key], with_[name][key])
    assert_same(states_without, states_with)


def test_missing_random_states_change_the_training(tmp_path, capsys):
    """Without random states in the checkpoint, the training differs and prints a note."""
    start(tmp_path / "whole", *NO_EVALUATION)
    start(tmp_path / "cut", *NO_EVALUATION, stop_at=(2, 0))
    for name in ("prompt_learner", "backbone"):
        path = tmp_path / "cut" / name / "model.pth.tar-2"
        checkpoint = load_checkpoint(path)
        del checkpoint["random_state"]
        torch.save(checkpoint, path)
    start(tmp_path / "cut", *NO_EVALUATION)
    assert "has no random states" in capsys.readouterr().out
    weights = [learned(tmp_path / n)[0]["backbone"]["state_dict"] for n in ("whole", "cut")]
    assert not torch.equal(weights[0]["0.weight"], weights[1]["0.weight"])


def test_best_result_is_resumed(tmp_path):
    """The best epoch before the interruption stays the best and is tested."""

    class Falling(Interruptible):
        def test(self, split=None):
            super().test(split)
            return 90.0 - self.epoch

    first = Falling(toy_cfg(tmp_path, *BEST_VAL))
    first.stop_at = (2, 0)
    with pytest.raises(Interrupted):
        first.train()
    again = Falling(toy_cfg(tmp_path, *BEST_VAL))
    again.train()
    assert (again.best_result, again.best_epoch) == (90.0, 1)
    assert load_checkpoint(tmp_path / "backbone" / "model-best.pth.tar")["epoch"] == 1


# where checkpoints are looked for


def test_training_from_scratch_is_logged(tmp_path, capsys):
    start(tmp_path, *NO_EVALUATION)
    assert "No checkpoint found, train from scratch" in capsys.readouterr().out


def test_finished_run_is_only_tested(tmp_path, capsys):
    start(tmp_path)
    _, state = learned(tmp_path)
    capsys.readouterr()
    start(tmp_path)
    out = capsys.readouterr().out
    assert "All 4 epochs are finished: nothing left to train" in out
    assert "epoch [" not in out
    assert "=> result" in out
    assert_same(get_random_state()["torch"], state["torch"])


def test_resume_from_another_folder_copies_its_best_model(tmp_path, capsys):
    class Falling(Interruptible):
        def test(self, split=None):
            super().test(split)
            return -float(self.epoch)

    old, new = tmp_path / "old", tmp_path / "new"
    Falling(toy_cfg(old, *BEST_VAL, "OPTIM.MAX_EPOCH", 2)).train()
    trainer = Falling(toy_cfg(new, *BEST_VAL, "RESUME", str(old)))
    trainer.train()
    assert trainer.start_epoch == 2
    assert (trainer.best_result, trainer.best_epoch) == (0.0, 1)
    assert load_checkpoint(new / "backbone" / "model-best.pth.tar")["epoch"] == 1
    assert not (old / "backbone" / "model.pth.tar-3").exists()
    assert f"Found checkpoint at {old}" in capsys.readouterr().out


@pytest.mark.parametrize("epoch_file", ["kept", "lost"])
def test_a_lost_best_model_is_restored_or_selected_again(tmp_path, capsys, epoch_file):
    class Falling(Interruptible):
        def test(self, split=None):
            super().test(split)
            return -float(self.epoch)

    opts = (*BEST_VAL, "TRAIN.CHECKPOINT_FREQ", 1)
    first = Falling(toy_cfg(tmp_path, *opts))
    first.stop_at = (3, 0)
    with pytest.raises(Interrupted):
        first.train()
    (tmp_path / "backbone" / "model-best.pth.tar").unlink()
    if epoch_file == "lost":
        (tmp_path / "backbone" / "model.pth.tar-1").unlink()
    again = Falling(toy_cfg(tmp_path, *opts))
    again.train()
    lost = "the best epoch is selected from here on" in capsys.readouterr().out
    assert lost == (epoch_file == "lost")
    assert again.best_epoch == (4 if lost else 1)
    assert (
        load_checkpoint(tmp_path / "backbone" / "model-best.pth.tar")["epoch"] == again.best_epoch
    )


def test_checkpoint_without_a_best_result(tmp_path):
    """The result is read from the best model's val_result, as the original saves it."""
    start(tmp_path, *BEST_VAL, stop_at=(2, 0))
    for path in tmp_path.glob("*/model*"):
        checkpoint = load_checkpoint(path)
        for key in ("best_result", "best_epoch", "random_state"):
            del checkpoint[key]
        torch.save(checkpoint, path)
    best = load_checkpoint(tmp_path / "backbone" / "model-best.pth.tar")
    trainer = Interruptible(toy_cfg(tmp_path, *BEST_VAL))
    trainer.before_train()
    assert (trainer.best_result, trainer.best_epoch) == (best["val_result"], best["epoch"])


def test_resume_from_a_missing_folder_raises(tmp_path):
    with pytest.raises(
        UsageError, match=r"nothing to resume in .*nowhere.*prompt_learner, backbone"
    ):
        start(tmp_path, "RESUME", str(tmp_path / "nowhere"))


def test_checkpoint_beyond_max_epoch_raises(tmp_path):
    start(tmp_path)
    with pytest.raises(UsageError, match=r"is of epoch 4, more than OPTIM\.MAX_EPOCH 3"):
        start(tmp_path, "OPTIM.MAX_EPOCH", 3)


def test_a_resumed_run_without_a_seed_prints_a_note(tmp_path, capsys):
    start(tmp_path, "SEED", -1, stop_at=(1, 0))
    assert "SEED is negative" not in capsys.readouterr().out
    start(tmp_path, "SEED", -1)
    assert "SEED is negative: the order of the images" in capsys.readouterr().out


def test_finished_run_is_trained_longer(tmp_path, capsys):
    start(tmp_path)
    assert start(tmp_path, "OPTIM.MAX_EPOCH", 6).start_epoch == 4
    assert "which are used" in capsys.readouterr().out  # a different cosine


def test_an_incomplete_set_is_named(tmp_path):
    start(tmp_path, stop_at=(2, 0))
    shutil.rmtree(tmp_path / "backbone")
    with pytest.raises(
        UsageError, match=r"incomplete: no epoch .*backbone has no such folder.*remove this one"
    ):
        start(tmp_path)


def test_newest_epoch_of_all_models_is_resumed(tmp_path, capsys):
    """Also where a pointer, or a file that only one model has, says otherwise."""
    start(tmp_path, "TRAIN.CHECKPOINT_FREQ", 1, stop_at=(3, 0))
    (tmp_path / "backbone" / "model.pth.tar-3").unlink()
    (tmp_path / "backbone" / "checkpoint").write_text("model.pth.tar-1\n")
    assert start(tmp_path).start_epoch == 2
    assert "model.pth.tar-2 (epoch 2)" in capsys.readouterr().out


def test_best_model_of_different_epochs_is_not_used(tmp_path, capsys):
    start(tmp_path, *BEST_VAL, "TRAIN.CHECKPOINT_FREQ", 1, stop_at=(2, 0))
    mixed = load_checkpoint(tmp_path / "backbone" / "model-best.pth.tar")
    mixed["epoch"] += 5
    torch.save(mixed, tmp_path / "backbone" / "model-best.pth.tar")
    trainer = Interruptible(toy_cfg(tmp_path, *BEST_VAL))
    with pytest.raises(UsageError, match=r"of different epochs \(prompt_learner is of epoch \d, "):
        trainer.load_model(str(tmp_path))
    trainer.before_train()
    assert trainer.start_epoch == 2
    assert "is of different epochs" in capsys.readouterr().out
    trainer.load_model(str(tmp_path))  # restored from the checkpoints of the best epoch


def test_run_that_resumed_another_continues_with_the_same_command(tmp_path, capsys):
    old, new = tmp_path / "old", tmp_path / "new"
    start(old, *NO_EVALUATION, "TRAIN.CHECKPOINT_FREQ", 1, stop_at=(2, 0))
    again = (*NO_EVALUATION, "TRAIN.CHECKPOINT_FREQ", 1, "RESUME", str(old))
    start(new, *again, stop_at=(3, 1))
    capsys.readouterr()
    assert start(new, *again).start_epoch == 3
    assert f"it is resumed instead of {old}" in capsys.readouterr().out


def test_changed_model_is_named(tmp_path):
    start(tmp_path, stop_at=(1, 0))
    path = tmp_path / "backbone" / "model.pth.tar-1"
    checkpoint = load_checkpoint(path)
    checkpoint["state_dict"]["0.weight"] = torch.zeros(3, 3)
    torch.save(checkpoint, path)
    with pytest.raises(UsageError, match=r"the model in .*backbone.* does not fit this run"):
        start(tmp_path)


def test_grad_scaler_is_resumed(tmp_path):
    class Scaled(Interruptible):
        init_scale = 1024.0

        def build_model(self):
            super().build_model()
            self.scaler = torch.amp.GradScaler("cpu", init_scale=self.init_scale)

    Scaled(toy_cfg(tmp_path, *NO_EVALUATION, "OPTIM.MAX_EPOCH", 1)).train()
    Scaled.init_scale = 2.0
    again = Scaled(toy_cfg(tmp_path, *NO_EVALUATION))
    again.before_train()
    assert again.scaler.get_scale() == 1024.0


# an output folder of the original CoOp


class ContextOnly(Interruptible):
    """A prompt learner with context vectors only; other embeddings depend on the class names."""

    def build_model(self):
        super().build_model()
        self._models.clear()
        self.model.prompt_learner = torch.nn.Module()
        self.model.prompt_learner.ctx = torch.nn.Parameter(torch.zeros(8, CLASSES))
        self.model.forward = lambda image: (
            self.model.backbone.eval()(image) @ self.model.prompt_learner.ctx
        )
        self.optim = build_optimizer(self.model.prompt_learner, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("prompt_learner", self.model.prompt_learner, self.optim, self.sched)


def write_coop_folder(folder):
    """CoOp's checkpoint after 2 epochs, with class-name buffers and a pickled scheduler."""
    ctx = torch.nn.Parameter(torch.full((8, CLASSES), 0.25))
    optim = torch.optim.SGD([ctx], lr=0.05, momentum=0.9)
    successor = torch.optim.lr_scheduler.CosineAnnealingLR(optim, EPOCHS)
    ctx.sum().backward()
    optim.step()
    successor.step()
    del optim.step  # current schedulers put a closure there, which cannot be pickled
    state = {
        "state_dict": {
            "ctx": ctx.detach(),
            "token_prefix": torch.zeros(CLASSES, 1, 8),
            "token_suffix": torch.zeros(CLASSES, 72, 8),
        },
        "epoch": 2,
        "optimizer": optim.state_dict(),
        "scheduler": {"successor": successor, "last_epoch": 1, "_last_lr": [0.05]},
        "val_result": None,
    }
    (folder / "prompt_learner").mkdir(parents=True)
    torch.save(state, folder / "prompt_learner/model.pth.tar-2")
    (folder / "prompt_learner/checkpoint").write_text("model.pth.tar-2\n")
    return ctx.detach()


def test_run_of_the_original_is_resumed(tmp_path, capsys):
    ctx = write_coop_folder(tmp_path / "coop")
    trainer = ContextOnly(toy_cfg(tmp_path / "ours", "RESUME", str(tmp_path / "coop")))
    trainer.before_train()
    assert trainer.start_epoch == trainer.sched.last_epoch == 2
    assert torch.equal(trainer.model.prompt_learner.ctx, ctx)
    assert trainer.optim.state[trainer.model.prompt_learner.ctx]["momentum_buffer"].eq(1).all()
    out = capsys.readouterr().out
    assert "Dropped token_prefix, token_suffix of the model in" in out
    trainer.train()
    assert load_checkpoint(tmp_path / "ours/prompt_learner/model.pth.tar-4")["epoch"] == EPOCHS


def test_load_model_drops_class_name_buffers(tmp_path, capsys):
    ctx = write_coop_folder(tmp_path)
    trainer = ContextOnly(toy_cfg(tmp_path / "ours"))
    trainer.load_model(str(tmp_path), epoch=2)
    assert torch.equal(trainer.model.prompt_learner.ctx, ctx)
    assert "Dropped token_prefix, token_suffix" in capsys.readouterr().out


def test_other_unknown_weights_raise(tmp_path):
    write_coop_folder(tmp_path)
    path = tmp_path / "prompt_learner/model.pth.tar-2"
    checkpoint = load_checkpoint(path)
    checkpoint["state_dict"]["token_middle"] = torch.zeros(1)
    del checkpoint["scheduler"]  # its stand-in cannot be pickled again
    torch.save(checkpoint, path)
    with pytest.raises(UsageError, match=r"does not fit this run: .*token_middle"):
        ContextOnly(toy_cfg(tmp_path)).before_train()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"ctx": torch.zeros(1)}, "it has no state_dict and no epoch"),
        ({"state_dict": {"ctx": torch.zeros(8, CLASSES)}}, "it has no epoch"),
        ({"state_dict": torch.zeros(1), "epoch": 2}, "its state_dict is not a dict of tensors"),
        ({"state_dict": {"ctx": 1.0}, "epoch": 2}, "its state_dict is not a dict of tensors"),
        ({"state_dict": {}, "epoch": "two"}, "its epoch is 'two', not an integer"),
    ],
)
def test_files_of_another_format_raise(tmp_path, content, message):
    write_coop_folder(tmp_path)
    torch.save(content, tmp_path / "prompt_learner/model.pth.tar-2")
    trainer = ContextOnly(toy_cfg(tmp_path))
    with pytest.raises(UsageError, match=f"is not a checkpoint of a run: {message}"):
        trainer.before_train()
    with pytest.raises(UsageError, match=f"is not a checkpoint of a run: {message}"):
        trainer.load_model(str(tmp_path), epoch=2)
    with pytest.raises(UsageError, match=f"is not a checkpoint of a run: {message}"):
        resume_from_checkpoint(tmp_path / "prompt_learner", trainer.model.prompt_learner)


def test_a_best_model_without_a_result_is_selected_again(tmp_path, capsys):
    write_coop_folder(tmp_path)
    folder = tmp_path / "prompt_learner"
    shutil.copy(folder / "model.pth.tar-2", folder / "model-best.pth.tar")
    trainer = ContextOnly(toy_cfg(tmp_path, *BEST_VAL))
    trainer.train()
    assert "has no val_result: the best epoch is selected from here on" in (capsys.readouterr().out)
    assert trainer.best_epoch > 2
