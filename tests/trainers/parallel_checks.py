"""Checks that parallel_runs.py runs in each of two processes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.utils import UsageError, distributed
from tests.trainers.toy_runs import ToyWorld, learned
from trainers.refiner import BatchNorm, updated_entries


def part(rows: Tensor) -> Tensor:
    """Return the uneven part of this process: 3 rows or all others."""
    return rows[:3] if distributed.is_main() else rows[3:]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def check_batch_norm(world: ToyWorld, output: Path) -> None:
    """Compare output, gradients and running statistics with BatchNorm1d over all rows."""
    whole, ours, rows = nn.BatchNorm1d(5).double(), BatchNorm(5).double(), random(10, 5) * 3 + 100
    with torch.no_grad():
        for norm in (whole, ours):
            norm.weight.copy_(random(5, seed=1))
            norm.bias.copy_(random(5, seed=2))
    for _ in range(2):
        expected_in, ours_in = rows.clone().requires_grad_(), part(rows).clone().requires_grad_()
        expected, found = whole(expected_in), ours(ours_in)
        close(found, part(expected))
        weights = random(10, 5, seed=3)
        (expected * weights).sum().backward()
        (found * part(weights)).sum().backward()
        close(ours_in.grad, part(expected_in.grad))
    assert ours.state_dict().keys() == whole.state_dict().keys()
    for key, value in whole.state_dict().items():
        close(ours.state_dict()[key], value)
    for own, expected in zip(ours.parameters(), whole.parameters(), strict=True):
        close(sum(distributed.all_gather(own.grad)), expected.grad)
    # float32 with a mean far from 0: sums of squared rows would cancel.
    far = (random(10, 5) + 10_000).float()
    close(BatchNorm(5)(part(far)), part(nn.BatchNorm1d(5).double()(far.double())).float(), 2e-3)
    close(ours.eval()(rows), whole.eval()(rows))


def close(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def check_cache_write(world: ToyWorld, output: Path) -> None:
    """Check the cache write of all tokens from uneven parts, including entries of one process."""
    entries, tokens = nn.functional.normalize(random(7, 4, seed=4), dim=1), random(20, 4, seed=5)
    expected = _alone(entries, tokens)
    close(updated_entries(entries, part(tokens), 0.8), expected)
    owners = (tokens @ entries.T).argmax(dim=1)
    assert set(owners[:3].tolist()) != set(owners[3:].tolist())


def _alone(entries: Tensor, tokens: Tensor) -> Tensor:
    """Run the cache write of method.md in this process only."""
    units = nn.functional.normalize(tokens, dim=1)
    scores = units @ entries.T
    weight = (scores - scores.max(dim=0).values).exp()
    own = nn.functional.one_hot(scores.argmax(dim=1), len(entries))
    sums = (own * weight).T @ units
    moved = torch.where(own.any(dim=0)[:, None], 0.8 * entries + 0.2 * sums, entries)
    return nn.functional.normalize(moved, dim=1)


def check_in_turns(world: ToyWorld, output: Path) -> None:
    """Check that the main process gets every item once and in order for any remainder."""
    rank, count = distributed.rank(), distributed.world_size()
    for size in range(6):
        own = [(torch.tensor(i), torch.tensor(-i)) for i in range(size)][rank::count]
        found = [(int(a), int(b)) for a, b in distributed.gather_batches(own)]
        assert found == ([(i, -i) for i in range(size)] if rank == 0 else [])


def check_start(world: ToyWorld, output: Path) -> None:
    """Check that all processes start with the random values of the main process."""
    cfg = world.cfg("TextRefinerPromptKD", output / "start")
    torch.manual_seed(distributed.rank())
    trainer = TRAINER_REGISTRY.get("TextRefinerPromptKD")(cfg)
    torch.manual_seed(0)
    alone = TRAINER_REGISTRY.get("TextRefinerPromptKD")(cfg)
    for key, value in learned(trainer).items():
        assert torch.equal(value, learned(alone)[key]), key


def check_resumption(world: ToyWorld, output: Path) -> None:
    """Check that an interrupted run is bit-identical to an uninterrupted one."""
    saving = ("TRAIN.CHECKPOINT_FREQ", 1, "OPTIM.MAX_EPOCH", 2)
    straight = learned(world.trained("TextRefinerCoOp", output / "straight", *saving))
    interrupted = world.build("TextRefinerCoOp", output / "resumed", *saving)
    interrupted.max_epoch = 1
    interrupted.train()
    resumed = world.build("TextRefinerCoOp", output / "resumed", *saving)
    resumed.train()
    assert resumed.start_epoch == 1
    for key, value in learned(resumed).items():
        assert torch.equal(value, straight[key]), key


def check_only_one_writes(world: ToyWorld, output: Path) -> None:
    """Check for one TensorBoard file and no temporary file of another process."""
    folder = output / "straight"
    assert len(list((folder / "tensorboard").iterdir())) == 1
    assert not list(folder.rglob("*.tmp*"))


def check_refusals(world: ToyWorld, output: Path) -> None:
    """Check errors for indivisible batches and for trainers without support for parallel steps."""
    trainer = world.build("CoOp", output / "odd", "DATALOADER.TRAIN_X.BATCH_SIZE", 3)
    with pytest.raises(UsageError, match="batch of 3 images cannot be divided evenly among 2 proc"):
        trainer.train()
    trainer = world.build("CoOp", output / "all", "DATALOADER.TRAIN_X.BATCH_SIZE", 100)
    trainer.train()  # 12 images, one batch
    assert trainer.num_batches == 1

    class Foreign(TrainerX):
        """A CoOp-style trainer of another project."""

    TRAINER_REGISTRY.register(Foreign)
    with pytest.raises(UsageError, match="Foreign does not support several processes"):
        world.build("Foreign", output / "foreign")


def check_zero_shot(world: ToyWorld, output: Path) -> None:
    """Check that tests without training also split the images."""
    trainer = world.build("ZeroshotCLIP", output / "zero", "DATASET.SUBSAMPLE_CLASSES", "all")
    assert len(trainer.test_loader) == (
        3 if distributed.is_main() else 2
    )  # 24 images in batches of 5
    trainer.test()
    assert trainer.evaluator.total == (24 if distributed.is_main() else 0)


def check_feature_store(world: ToyWorld, output: Path) -> None:
    """Check that one process computes an entry while the other waits, with the same results."""
    expected = world.build("ZeroshotCLIP", output / "unstored").test()
    store = output / "features"
    encoded: list[int] = []
    for _ in range(2):
        options = ("DATALOADER.FEATURE_STORE", str(store))
        trainer = world.build("ZeroshotCLIP", output / "stored", *options)
        trainer.clip_model.visual.ln_pre.register_forward_pre_hook(
            lambda module, inputs: encoded.append(len(inputs[0]))
        )
        assert trainer.test() == expected
        assert sorted(distributed.all_gather(sum(encoded))) == [0, 12]
    assert [path.suffix for path in store.iterdir()] == [".safetensors"]


def check_logits(world: ToyWorld, output: Path) -> None:
    """Check that all processes name the first image with logits that are not finite."""
    trainer = world.build("ZeroshotCLIP", output / "nan", "DATASET.SUBSAMPLE_CLASSES", "all")
    infer = trainer.model_inference

    def spoiled(image: Tensor) -> Tensor:
        logits = infer(image)
        if not distributed.is_main():
            logits[2:] = torch.nan  # of its two batches of 5 images
        return logits

    trainer.model_inference = spoiled
    first = trainer.dm.dataset.test[5 + 2].impath
    with pytest.raises(
        UsageError, match=f"of '{first}' .and of 5 more of 24 tested images. are NaN"
    ):
        trainer.test()


CHECKS = [
    check_batch_norm,
    check_cache_write,
    check_in_turns,
    check_start,
    check_resumption,
    check_only_one_writes,
    check_refusals,
    check_zero_shot,
    check_logits,
    check_feature_store,
]
