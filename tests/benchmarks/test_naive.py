"""The naive implementation matches the trainers: losses, gradients, cache and logits."""

import copy

import pytest
import torch

from benchmarks import naive
from tests.trainers.toy_runs import TEST_CASES, ToyWorld

CASES = [name for name, _ in TEST_CASES if name != "TextRefiner"]  # an alias
LABEL = torch.tensor([0, 2, 1])
TOLERANCES = {
    torch.float64: {"rtol": 0, "atol": 1e-9},
    torch.float32: {"rtol": 1e-3, "atol": 1e-4},  # losses of up to 100, summed in a different order
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


def build(world, name, folder, dtype, device):
    words = "a photo of a"
    options = ("TRAINER.COOP.CTX_INIT", words, "TRAINER.COCOOP.CTX_INIT", words)
    trainer = world.build(name, folder, *options, "USE_CUDA", device == "cuda")
    learner = trainer.model.to(dtype).learner
    if "PromptKD" in name:  # the learner computed the teacher's text in float32
        with torch.no_grad():
            learner.teacher_text = learner.teacher.encode_text()
    trainer.set_model_mode("train")
    return trainer


def gradients(model, losses):
    """Return the gradients of the trained parameters by name."""
    model.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    trained = torch.nn.ModuleDict(model.trainable_modules())
    return {n: p.grad.clone() for n, p in trained.named_parameters() if p.grad is not None}


def assert_equals_the_trainer(world, name, folder, dtype, device="cpu"):
    """Compare a step (losses, logits, gradients, cache, statistics) and test logits."""
    tolerance = TOLERANCES[dtype]
    fast = build(world, name, folder, dtype, device)
    plain = copy.copy(fast)
    plain.model = copy.deepcopy(fast.model)
    slow = naive.model_of(plain)
    image = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    image, label = image.to(device, dtype), LABEL.to(device)

    batch = {"img": image, "label": label}
    ours, theirs = fast.model.training_step(batch), slow.training_step(image, label)
    torch.testing.assert_close(ours.logits, theirs.logits, **tolerance)
    torch.testing.assert_close(ours.losses, theirs.losses, **tolerance)
    found, expected = gradients(fast.model, ours.losses), gradients(plain.model, theirs.losses)
    assert found.keys() == expected.keys()
    assert sum(float(g.abs().sum()) for g in found.values()) > 0
    torch.testing.assert_close(found, expected, **tolerance)
    for key, value in fast.model.state_dict().items():  # the cache, running statistics
        torch.testing.assert_close(value, plain.model.state_dict()[key], **tolerance)

    fast.set_model_mode("eval")
    plain.model.eval()
    with torch.no_grad():
        logits = fast.model(image, fast.model.class_features())
        torch.testing.assert_close(logits, slow(image), **tolerance)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_step_and_test_equal_the_trainers(world, name, dtype, tmp_path):
    assert_equals_the_trainer(world, name, tmp_path, dtype)


def test_cache_entries_without_tokens_are_unchanged():
    entries = torch.nn.functional.normalize(torch.eye(4, 6, dtype=torch.float64), dim=-1)
    tokens = torch.tensor([[1.0, 0, 0, 0, 2, 0], [1.0, 0, 0, 0, 0, 0]], dtype=torch.float64)
    moved = naive.update_cache(entries, tokens, 0.8)
    assert torch.equal(moved[1:], entries[1:])
    assert not torch.equal(moved[0], entries[0])
