"""TRAINER.COMPILE: losses and gradients are unchanged; other batch sizes are not recompiled."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.toy_runs import ToyWorld
from trainers import backbone as compiled
from trainers.settings import SettingsError

IMAGES = torch.Generator().manual_seed(3)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ToyWorld:
    return ToyWorld(tmp_path_factory.mktemp("compiled"))


def step(trainer: Any, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return losses and gradients of one training step by name."""
    trainer.set_model_mode("train")
    trainer.model.double()
    batch = {"img": images, "label": torch.arange(len(images)) % 3}
    losses = trainer.model.training_step(batch).losses
    torch.stack(list(losses.values())).sum().backward()
    named = trainer.model.named_parameters()
    gradients = {name: p.grad for name, p in named if p.grad is not None}
    return {name: value.detach() for name, value in {**losses, **gradients}.items()}


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("TextRefinerCoOp", "inductor"),
        ("TextRefinerCoCoOp", "eager"),  # for the others, only graph capture is tested
        ("TextRefinerMaPLe", "eager"),
        ("TextRefinerPromptSRC", "eager"),
        ("TextRefinerPromptKD", "eager"),
    ],
)
def test_compiled_step_equals_the_plain_step(
    world: ToyWorld, name: str, backend: str, tmp_path: Path
) -> None:
    images = torch.randn(4, 3, 32, 32, generator=IMAGES, dtype=torch.float64)
    plain = step(world.build(name, tmp_path / "a"), images)
    trainer = world.build(name, tmp_path / "b")
    compiled.compile_encoders(trainer.model.learner, {4, 5}, backend)
    torch._dynamo.utils.counters.clear()
    fast = step(trainer, images)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    assert plain.keys() == fast.keys()
    torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-12)


def test_only_the_loaders_batch_sizes_are_compiled(world: ToyWorld, tmp_path: Path) -> None:
    trainer = world.build("CoOp", tmp_path)
    learner = trainer.model.learner
    expected = learner.encode_image(torch.ones(3, 3, 32, 32), False).pooled
    compiled.compile_encoders(learner, {4, 5}, "eager")
    torch._dynamo.utils.counters.clear()
    with torch.no_grad():
        pooled = learner.encode_image(torch.ones(3, 3, 32, 32), False).pooled
        learner.encode_text(None)  # in eval mode: once
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0
        learner.encode_image(torch.ones(4, 3, 32, 32), False)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    assert torch.equal(pooled, expected)


def test_missing_compiler_is_reported_in_one_sentence(
    world: ToyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(function: Any) -> Any:
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(SettingsError, match=r"needs a C\+\+ compiler, .* \(No working"):
        world.build("CoOp", tmp_path, "TRAINER.COMPILE", True)
