"""Non-finite losses are found without a sync, reported with their step and never saved."""

import pytest
import torch

from tests.trainers.host_reads import HostReads
from tests.trainers.toy_runs import TEST_CASES, ToyWorld
from trainers.nonfinite import LossWatch, NonFiniteError
from trainers.settings import SettingsError

# 12 images in batches of 2: steps 1 to 6 make an epoch, losses are read after step 4 and 6.
STEPS = ("DATALOADER.TRAIN_X.BATCH_SIZE", 2, "TRAIN.PRINT_FREQ", 4, "TRAIN.CHECKPOINT_FREQ", 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


@pytest.fixture
def trainer(world, tmp_path):
    return world.build("TextRefinerCoOp", tmp_path, *STEPS)


def spoil(trainer, loss, value, epoch, index):
    """Multiply one loss of one step by ``value``; return the list of steps made."""
    original, made = trainer.model.training_step, []

    def step(batch):
        out = original(batch)
        made.append(trainer.batch_idx)
        if (trainer.epoch, trainer.batch_idx) == (epoch, index):
            out.losses[loss] = out.losses[loss] * value
        return out

    trainer.model.training_step = step
    return made


def test_first_non_finite_step_and_loss_are_named(trainer, tmp_path):
    made = spoil(trainer, "regularizer", float("inf"), epoch=1, index=1)
    # All losses of later steps are non-finite; only the first one shows the origin.
    with pytest.raises(NonFiniteError) as caught:
        trainer.train()
    assert str(caught.value) == (
        "regularizer is inf at epoch 2, step 8: this epoch is not saved; try a smaller OPTIM.LR, "
        "and check the images and weights"
    )
    assert len(made) == 6 + 4, "it is read when losses are printed, not before"
    assert [file.name for file in (tmp_path / "Memory").glob("model*")] == ["model.pth.tar-1"]
    saved = torch.load(tmp_path / "Memory" / "model.pth.tar-1", weights_only=False)
    assert all(v.isfinite().all() for v in saved["state_dict"].values())


def test_last_step_of_an_epoch_is_checked_before_saving(trainer, tmp_path):
    spoil(trainer, "ce", float("nan"), epoch=0, index=5)
    with pytest.raises(NonFiniteError, match=r"^ce is nan at epoch 1, step 6: "):
        trainer.train()
    assert not (tmp_path / "Memory").exists()


def test_non_finite_weights_with_finite_losses_are_not_saved(trainer, tmp_path):
    def poison(gradient):
        at = (trainer.epoch, trainer.batch_idx)
        return gradient * float("nan") if at == (0, 5) else gradient

    trainer.model.refiner.aggregate.weight.register_hook(poison)
    message = r"^Memory\.aggregate\.weight became infinite or NaN in epoch 1, with finite losses"
    with pytest.raises(NonFiniteError, match=message):
        trainer.train()
    assert not (tmp_path / "Memory").exists()


def test_error_is_a_settings_error_and_a_floating_point_error():
    assert issubclass(NonFiniteError, SettingsError)
    assert issubclass(NonFiniteError, FloatingPointError)


@pytest.mark.parametrize(
    ("precision", "advice"),
    [
        ("fp32", "OPTIM.LR, and check"),
        ("amp", "OPTIM.LR, PREC fp32 (amp computes in half precision), and check"),
        ("bf16", "OPTIM.LR, PREC amp or fp32, and check"),
        ("fp16", "OPTIM.LR, PREC amp (it scales the loss), bf16 or fp32, and check"),
    ],
)
def test_several_losses_and_the_advice_for_a_precision(precision, advice):
    watch = LossWatch(precision)
    names = ("ce", "semantic", "regularizer")
    watch.check(4)
    for step, values in enumerate([[1, 2, 3], [1, float("nan"), float("-inf")], [0, 0, 0]]):
        watch.add(names, torch.tensor(values), step)
    with pytest.raises(NonFiniteError) as caught:
        watch.check(4)
    expected = "semantic is nan, regularizer is -inf at epoch 1, step 2: "
    assert str(caught.value).startswith(expected)
    assert advice in str(caught.value)


@pytest.mark.parametrize("name", [name for name, _ in TEST_CASES])
def test_step_does_not_sync_until_losses_are_printed(world, name, tmp_path):
    trainer = world.build(name, tmp_path, *STEPS)
    trainer.set_model_mode("train")
    trainer.num_batches = len(trainer.train_loader_x)
    reads = []
    for index, batch in enumerate(trainer.train_loader_x):
        trainer.batch_idx = index
        with HostReads() as host:
            trainer.forward_backward(batch)
        reads.append(len(host.names))
    # The first step may include one-time setup.
    assert reads[1:3] == [0, 0], host.names
    assert reads[3] == 1, "losses are printed after step 4: one read checks that all were finite"
    assert reads[4] == 0
    assert reads[5] > 1, "the weights are also checked at the end of an epoch"


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).any()),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: x[x > 0],
        lambda x: x.repeat_interleave(torch.tensor([1, 2, 3])),
        lambda x: x.nonzero(),
    ],
)
def test_host_reads_are_counted(read):
    with HostReads() as host:
        read(torch.tensor([1.0, 2.0, 3.0]))
    assert host.names
