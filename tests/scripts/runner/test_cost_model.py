"""Predicted costs against runs of this version, and how they grow."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from scripts.runner.cost_model import TOWERS, CostModel, Work, compare, uses_gpu

MIB = 2**20
COOP = Work("CoOp", "ViT-B/16", 100, 1600, 2500, 10, 32)

# Runs on two cores, 2026-11-25: seconds and peak MiB of make demo-all and scripts/own.sh.
RUNS = [
    (Work("ZeroshotCLIP", "critters-vit-t", 18, 0, 1800, 20, 32), 8.7, 867),
    (Work("CoOp", "critters-vit-t", 18, 288, 1800, 20, 32), 31.1, 857),
    (Work("TextRefinerCoOp", "critters-vit-t", 18, 288, 1800, 20, 32), 31.9, 951),
    (Work("TextRefinerCoOp", "critters-vit-t", 8, 128, 96, 50, 32), 43.2, 892),
    (Work("TextRefinerCoOp", "critters-vit-t", 3, 48, 600, 200, 32), 49.3, 895),
    (Work("CoCoOp", "critters-vit-t", 18, 288, 1800, 10, 32), 19.1, 943),
    (Work("MaPLe", "critters-vit-t", 18, 288, 1800, 10, 32), 28.3, 902),
    (Work("PromptSRC", "critters-vit-t", 18, 288, 1800, 10, 32), 35.8, 1003),
    (Work("PromptSRC", "critters-vit-s", 18, 288, 1800, 20, 32), 62.7, 1021),
    (Work("TextRefinerPromptKD", "critters-vit-t", 18, 288, 1800, 20, 8), 57.7, 953),
]


@pytest.fixture(scope="module")
def model() -> CostModel:
    return CostModel.load()


@pytest.mark.parametrize(("work", "seconds", "peak"), RUNS, ids=lambda v: getattr(v, "trainer", ""))
def test_finished_runs(model: CostModel, work: Work, seconds: float, peak: float) -> None:
    cost = model.predict(work, gpu=False, cores=2)
    assert cost.seconds is not None
    assert seconds / 1.7 < cost.seconds < seconds * 1.7
    assert peak / 1.2 < cost.bytes / MIB < peak * 1.2


def test_every_method_of_the_protocols_is_known(model: CostModel) -> None:
    for learner in (
        "CoOp",
        "CoCoOp",
        "KgCoOp",
        "TCP",
        "MaPLe",
        "PromptSRC",
        "MMRL",
        "TaskRes",
        "CLIPAdapter",
        "ATPrompt",
        "PromptKD",
    ):
        for trainer in (learner, f"TextRefiner{learner}"):
            for backbone in TOWERS:
                assert model.knows(trainer, backbone)
                cost = model.predict(replace(COOP, trainer=trainer, backbone=backbone), False, 2)
                assert cost.seconds is not None
                assert cost.seconds > model.startup
    assert not model.knows("CoOp", "weights.pt")
    assert not model.knows("MyTrainer", "ViT-B/16")


@pytest.mark.parametrize(
    "more",
    [
        {"classes": 1000},
        {"train_images": 3200},
        {"test_images": 5000},
        {"epochs": 20},
        {"backbone": "ViT-L/14"},
        {"trainer": "TextRefinerCoOp"},
        {"trainer": "MaPLe"},
    ],
    ids=str,
)
def test_more_work_takes_more_time(model: CostModel, more: dict) -> None:
    assert model.cpu_seconds(replace(COOP, **more), 2) > model.cpu_seconds(COOP, 2)


def test_more_cores_take_less_time(model: CostModel) -> None:
    assert model.cpu_seconds(COOP, 16) < model.cpu_seconds(COOP, 2) / 4


def test_steps_of_few_images() -> None:
    """An incomplete batch is dropped, unless it is the only one."""
    assert replace(COOP, train_images=63, epochs=3).steps == 3
    assert replace(COOP, train_images=5, epochs=3).steps == 3
    assert replace(COOP, train_images=64, epochs=3).steps == 6
    assert replace(COOP, train_images=0).steps == 0


def test_time_on_a_gpu_is_not_invented(model: CostModel) -> None:
    cost = model.predict(COOP, gpu=True, cores=2)
    assert cost.seconds is None
    assert cost.bytes > 2**30


def test_accuracy_on_finished_runs() -> None:
    assert compare([]) is None
    accuracy = compare([(20.0, 10.0), (20.0, 10.0), (30.0, 10.0)])
    assert accuracy is not None
    assert accuracy.factor == 2
    assert accuracy.errors == pytest.approx([0, 0, 1 / 3])
    assert str(accuracy) == (
        "times multiplied by 2 to fit 3 finished runs, error 0% (median), 33% (largest)"
    )


def test_gpus_are_found_by_their_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert uses_gpu({})
    assert not uses_gpu({"USE_CUDA": False})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not uses_gpu({})
