"""Bad input on the command line: one sentence with a remedy, exit code 2 and no traceback."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from scripts import run
from tests.toy import save_toy_clip, toy_clip_state_dict
from tests.toy_command import console, own_console, short_run, swap
from tests.trainers.toy_runs import TOY_OPTIONS, ToyWorld

__all__ = ["console"]  # a fixture, used by every test here

SHOTS = ["DATASET.NUM_SHOTS", "4", "DATASET.SUBSAMPLE_CLASSES", "base"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ToyWorld:
    return ToyWorld(tmp_path_factory.mktemp("world"))


@pytest.fixture
def command(world: ToyWorld, tmp_path: Path) -> list[str]:
    return short_run(world, tmp_path)


@pytest.fixture(scope="module")
def trained(world: ToyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of a finished run."""
    folder = tmp_path_factory.mktemp("trained")
    with own_console():
        assert train.main([*short_run(world, folder), *SHOTS]) == 0
    return folder / "out"


def distillation(world: ToyWorld, command: list[str]) -> list[str]:
    """Return ``command`` changed to a run of PromptKD."""
    values = {
        "TRAINER.PROMPTKD.TEACHER_NAME": world.teacher_clip,
        "TRAINER.PROMPTKD.TEACHER_WEIGHTS": world.teacher,
        "DATASET.DISTILL_ON": "few_shot",
    }
    values |= {f"TRAINER.PROMPTKD.{key}": value for key, value in TOY_OPTIONS["PROMPTKD"].items()}
    pairs = [str(part) for pair in values.items() for part in pair]
    return [*swap(command, "--trainer", "PromptKD"), *SHOTS, *pairs]


def sentence(argv: list[str], capsys: pytest.CaptureFixture[str], main: Any = train.main) -> str:
    """Check that train.py rejects the command with one line, and return that line."""
    capsys.readouterr()
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def test_teacher_of_another_width(
    world: ToyWorld, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*distillation(world, command), "TRAINER.PROMPTKD.TEACHER_NAME", world.clip]
    error = sentence(argv, capsys)
    assert "has prompts of width 128, but the text encoder of its CLIP has width 64" in error
    assert "set TRAINER.PROMPTKD.TEACHER_NAME to the CLIP of its training" in error


def test_teacher_trained_on_other_classes(
    world: ToyWorld, command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher" / "VLPromptLearner" / "model.pth.tar-20"
    teacher.parent.mkdir(parents=True)
    shutil.copy(world.teacher, teacher)
    record = {"classes": ["abyssinian", "beagle"], "clip": {}}
    (tmp_path / "teacher" / "checkpoint.json").write_text(json.dumps(record))
    argv = [*distillation(world, command), "TRAINER.PROMPTKD.TEACHER_WEIGHTS", str(teacher)]
    error = sentence(argv, capsys)
    assert "was trained on abyssinian, beagle, which are not classes of Caltech101" in error
    assert "TRAINER.MODAL cross" in error


def test_checkpoint_of_another_backbone(
    command: list[str], trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = tmp_path / "other.pt"
    save_toy_clip(str(other), seed=5)
    argv = [*command, "--eval-only", "--model-dir", str(trained), *SHOTS]
    error = sentence([*argv, "MODEL.BACKBONE.NAME", str(other)], capsys)
    assert "set MODEL.BACKBONE.NAME" in error
    assert str(other) in error


def test_unknown_trainer(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "TextRefinerMaPLe" in sentence(swap(command, "--trainer", "TextRefinerMaple"), capsys)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["coop", "base2old", "dtd", "1"], "unknown protocol 'base2old'"),
        (["coop", "base2new", "dtdd", "1"], "unknown dataset 'dtdd'"),
        (["cop", "base2new", "dtd", "1"], "unknown method 'cop'"),
    ],
)
def test_unknown_protocol_dataset_or_method(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in sentence(words, capsys, lambda argv: run.main(argv, {}))


def test_unknown_dataset_in_a_config(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Caltech101" in sentence([*command, "DATASET.NAME", "Caltech1O1"], capsys)


def test_class_name_too_long_for_the_context(
    world: ToyWorld, command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(world.folder / "data", root)
    (split,) = root.glob("*/split_*.json")
    long = "_".join(["xylophone"] * 40)
    name = world.classnames[0]
    split.write_text(split.read_text().replace(f'"{name}"]', f'"{long}"]'))
    error = sentence([*swap(command, "--root", root), *SHOTS], capsys)
    assert "xylophone" in error
    assert "77" in error


def test_checkpoint_folder_with_a_missing_model(
    command: list[str], trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    half = tmp_path / "half"
    shutil.copytree(trained, half)
    shutil.rmtree(half / "Memory")
    error = sentence([*command, "--eval-only", "--model-dir", str(half), *SHOTS], capsys)
    assert (
        "contains checkpoints of prompt_learner, but this trainer needs Memory, prompt_learner"
        in error
    )


def test_truncated_checkpoint_file(
    command: list[str], trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    half = tmp_path / "half"
    shutil.copytree(trained, half)
    (path,) = (half / "Memory").glob("model.pth.tar-*")
    path.write_bytes(path.read_bytes()[:1000])
    argv = [*command, "--eval-only", "--model-dir", str(half), "--load-epoch", "2", *SHOTS]
    assert str(path) in sentence(argv, capsys)


def test_more_salient_patches_than_patches(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    error = sentence([*command, *SHOTS, "TRAINER.TEXTREFINER.TOPK", "17"], capsys)
    assert "the backbone has 16 patches: set it to at most 16" in error


def test_loaded_teacher_must_be_a_promptsrc_file(
    world: ToyWorld, command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = tmp_path / "other.pth.tar"
    torch.save({"state_dict": {"ctx": torch.zeros(4, 64)}, "epoch": 1}, other)
    argv = [*distillation(world, command), "TRAINER.PROMPTKD.TEACHER_WEIGHTS", str(other)]
    assert "must be a checkpoint of PromptSRC" in sentence(argv, capsys)


@pytest.mark.parametrize("trainer", ["ZeroshotCLIP", "CoOp"])
@pytest.mark.parametrize("stored", [False, True])
def test_logits_that_are_not_numbers(
    command: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    trainer: str,
    stored: bool,
) -> None:
    weights = toy_clip_state_dict()
    weights["visual.proj"].fill_(3e38)  # finite, but products with it are not
    torch.save(weights, tmp_path / "nan.pt")
    argv = [*swap(command, "--trainer", trainer), "--eval-only", *SHOTS]
    argv += ["MODEL.BACKBONE.NAME", str(tmp_path / "nan.pt")]
    argv += ["DATALOADER.FEATURE_STORE", str(tmp_path / "store")] if stored else []
    error = sentence(argv, capsys)
    assert "/caltech-101/101_ObjectCategories/Faces/image_0013.jpg' (and of 4 more of 5" in error
    assert "tested images) are NaN or infinite" in error
    assert not (tmp_path / "out" / "result.json").exists()


def test_weights_that_are_not_numbers(
    command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    weights = toy_clip_state_dict()
    weights["visual.proj"][0, 0] = torch.nan
    torch.save(weights, tmp_path / "nan.pt")
    argv = [*command, *SHOTS, "MODEL.BACKBONE.NAME", str(tmp_path / "nan.pt")]
    error = sentence(argv, capsys)
    assert "nan.pt" in error
    assert "visual.proj" in error
