"""Half-precision encoders, as with PREC fp16 on CUDA; the arithmetic also runs on a CPU."""

import pytest
import torch

from clip.model import convert_weights
from tests.toy import toy_clip
from trainers.cocoop import CoCoOpLearner, ConditionalPrompts
from trainers.coop import CoOpLearner
from trainers.prompting.contexts import ContextPrompts
from trainers.settings import RefinerSettings
from trainers.trainer import RefinedCLIP, build_refiner

NAMES = ["cat", "wind_turbine", "very large dog"]
SETTINGS = RefinerSettings()


def coop(clip_model):
    return CoOpLearner(clip_model, ContextPrompts(clip_model, NAMES, ctx_init="a photo of a"))


def cocoop(clip_model):
    prompts = ConditionalPrompts(clip_model, NAMES, ctx_init="a photo of a")
    prompts.packing.set_max_prompts(4)
    return CoCoOpLearner(clip_model, prompts)


def step(make, half):
    """Return losses and gradients of one step from the same initial state in either precision."""
    clip_model = toy_clip()
    if half:
        convert_weights(clip_model)
    torch.manual_seed(0)
    model = RefinedCLIP(make(clip_model), build_refiner(clip_model, 32, SETTINGS), SETTINGS)
    model.freeze()
    image = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    batch = {"img": image, "label": torch.tensor([0, 1, 2, 0])}
    losses = model.training_step(batch).losses
    sum(losses.values()).backward()
    return model, losses


@pytest.mark.parametrize("make", [coop, cocoop])
def test_half_precision_encoders_train_float32_parameters(make):
    full, expected = step(make, half=False)
    model, losses = step(make, half=True)
    assert model.learner.clip_model.dtype == torch.float16
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected[name], rtol=0.05, atol=0.05)
    for (name, p), q in zip(model.named_parameters(), full.parameters(), strict=True):
        if p.requires_grad:
            assert p.dtype == torch.float32, name
            assert p.grad is not None, name
            assert torch.linalg.vector_norm(p.grad - q.grad) <= 0.1 * q.grad.norm() + 1e-4, name
    assert model.refiner.cache.entries.dtype == torch.float32
    torch.testing.assert_close(
        model.refiner.cache.entries, full.refiner.cache.entries, rtol=0, atol=0.01
    )
    with torch.no_grad():
        assert model.eval()(torch.randn(2, 3, 32, 32)).dtype == torch.float32
