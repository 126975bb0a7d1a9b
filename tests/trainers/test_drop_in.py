"""CoOp-style trainer files run unmodified and exchange checkpoints with ours."""

import hashlib
import importlib.util
import shutil

import pytest
import torch

from clip import clip
from tests.conftest import DATA
from tests.trainers.toy_runs import ToyWorld


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("dropped", DATA / "coop_style_trainer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return ToyWorld(tmp_path_factory.mktemp("world"))


@pytest.fixture
def named_clip(world, tmp_path, monkeypatch):
    """Store the toy CLIP under a model name, as in ~/.cache/clip."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".cache" / "clip").mkdir(parents=True)
    shutil.copy(world.clip, tmp_path / ".cache" / "clip" / "toy.pt")
    with open(world.clip, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    monkeypatch.setitem(clip._MODELS, "Toy/8", f"https://example.invalid/{digest}/toy.pt")
    return ["MODEL.BACKBONE.NAME", "Toy/8", "TRAINER.COOP.CTX_INIT", "a photo of a"]


def test_coop_style_trainer_trains_and_its_checkpoint_loads_into_ours(world, named_clip, tmp_path):
    fp32 = ["TRAINER.COOP.PREC", "fp32"]
    theirs = world.trained("AnchoredCoOp", tmp_path / "theirs", *named_clip, *fp32)
    accuracy = theirs.test()
    reloaded = world.build("AnchoredCoOp", tmp_path / "again", *named_clip, *fp32)
    reloaded.load_model(str(tmp_path / "theirs"), epoch=3)
    assert reloaded.test() == accuracy

    ours = world.build("CoOp", tmp_path / "ours", *named_clip, *fp32)
    ours.load_model(str(tmp_path / "theirs"), epoch=3)
    image = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        # build_model, which their loader calls, rounds to fp16 like OpenAI's; ours loads fp32.
        torch.testing.assert_close(
            ours.model_inference(image), theirs.model_inference(image), rtol=0, atol=0.2
        )


def test_interrupted_coop_style_trainer_is_identical(world, named_clip, tmp_path):
    options = [*named_clip, "TRAINER.COOP.PREC", "fp32", "TRAIN.CHECKPOINT_FREQ", 1]
    straight = world.trained("AnchoredCoOp", tmp_path / "straight", *options)
    interrupted = world.build("AnchoredCoOp", tmp_path / "resumed", *options)
    interrupted.max_epoch = 1
    interrupted.train()
    resumed = world.trained("AnchoredCoOp", tmp_path / "resumed", *options)
    assert torch.equal(straight.model.prompt_learner.ctx, resumed.model.prompt_learner.ctx)
