"""A training step on CUDA: the host does not wait, and the optimizer is fused."""

import pytest
import torch

from tests.trainers.toy_runs import TEST_CASES


@pytest.mark.parametrize("precision", ["fp32", "amp", "bf16", "fp16"])
@pytest.mark.parametrize(("name", "node"), TEST_CASES)
def test_the_host_waits_only_where_losses_are_printed(world, name, node, precision, tmp_path):
    options = {
        "USE_CUDA": True,
        f"TRAINER.{node}.PREC": precision,
        "DATALOADER.TRAIN_X.BATCH_SIZE": 2,
        "TRAIN.PRINT_FREQ": 5,
    }
    flat = [part for pair in options.items() for part in pair]
    trainer = world.build(name, tmp_path, *flat)
    assert trainer.precision == precision
    assert trainer.optim.param_groups[0]["fused"]
    trainer.set_model_mode("train")
    trainer.num_batches = len(trainer.train_loader_x)
    for index, batch in enumerate(list(trainer.train_loader_x)):
        trainer.batch_idx = index
        # The first step includes one-time setup; losses are printed after step 5.
        torch.cuda.set_sync_debug_mode("error" if index in (1, 2, 3) else "default")
        try:
            summary = trainer.forward_backward(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert all(value.isfinite().all() for value in summary.values())
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters() if p.requires_grad)
