"""Checkpoints with other values than a run writes, loaded for a test (trainers/checkpoints)."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from dassl.utils import UsageError
from tests.fuzz.archives import saved
from tests.fuzz.harness import fuzz
from tests.fuzz.values import UNCHANGED, changed
from tests.toy import toy_clip
from trainers.checkpoints.load import load_trained
from trainers.coop import CoOpLearner
from trainers.prompting.contexts import ContextPrompts
from trainers.settings import RefinerSettings, SettingsError
from trainers.trainer import RefinedCLIP, build_refiner

CLASSES = ["face", "yin_yang", "water_lilly"]
DEFAULTS = RefinerSettings(cache_size=2)


@pytest.fixture(scope="module")
def model() -> RefinedCLIP:
    clip_model = toy_clip(vision_layers=1, text_layers=1).requires_grad_(False)
    learner = CoOpLearner(clip_model, ContextPrompts(clip_model, CLASSES, ctx_init="a photo of a"))
    return RefinedCLIP(learner, build_refiner(clip_model, 32, DEFAULTS), DEFAULTS).eval()


def checkpoints(model: RefinedCLIP) -> dict[str, dict[str, Any]]:
    """Return {model: content of its file} in our layout."""
    return {
        name: {"state_dict": module.state_dict(), "epoch": 4, "val_result": 50.0}
        for name, module in model.trainable_modules().items()
    }


def public(model: RefinedCLIP) -> dict[str, dict[str, Any]]:
    """Return the same in the layout of the release."""
    ours, learner = checkpoints(model), model.learner
    memory = ours["Memory"]["state_dict"]
    state = {"prompt_learner.ctx": learner.prompts.ctx.detach().half()}
    state |= {
        f"mid_image_trans.conv1.{index}.{key.rpartition('.')[2]}": value
        for index, layer in ((0, "inner"), (1, "norm"), (3, "outer"))
        for key, value in memory.items()
        if key.startswith(f"align.{layer}.")
    }
    state["image_encoder.proj"] = learner.clip_model.visual.proj
    entries, extractor = memory["cache.entries"], memory["aggregate.weight"]
    return {
        "prompt_learner": {"state_dict": state, "epoch": 4},
        "Memory": {
            "state_dict": {"extractor.weight": extractor}, "epoch": 4, "memory_item": entries,
        },
    }  # fmt: skip


@pytest.mark.parametrize("layout", [checkpoints, public])
def test_values(model: RefinedCLIP, tmp_path: Path, layout) -> None:
    content = layout(model)

    def read(path: Path) -> None:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        for name, value in changed(content, path.read_bytes()).items():
            file = tmp_path / "run" / str(name)[:50] / "model.pth.tar-4"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(saved(value))
        modules = model.trainable_modules()
        load_trained(modules, str(tmp_path / "run"), 4, model.learner.clip_model, CLASSES)
        for module in modules.values():  # what was accepted is fit for a test
            assert all(torch.isfinite(value).all() for value in module.state_dict().values())

    fuzz(read, [UNCHANGED], tmp_path, "seed", (SettingsError, UsageError))
