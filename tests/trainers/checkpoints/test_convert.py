"""Convert public checkpoint folders to ours, and ours to the release's and back, bit for bit."""

import json
import shutil

import pytest
import torch

from scripts.convert_checkpoint import main
from tests.trainers.public_layouts import EPOCH, LAYOUTS
from tests.trainers.toy_runs import ToyWorld, learned


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


def convert(way, source, target, *options):
    return main(["--to", way, str(source), str(target), *map(str, options)])


def files(folder):
    """Return {relative path: content} of the checkpoints below ``folder``."""
    return {
        path.relative_to(folder): torch.load(path, weights_only=False)
        for path in sorted(folder.rglob("*.pth.tar*"))
    }


def assert_same(theirs, ours):
    """Check for equal tensors of equal types, ignoring states of optimizer and schedule."""
    assert theirs.keys() == ours.keys()
    for path, content in theirs.items():
        other = ours[path]
        assert content["epoch"] == other["epoch"]
        assert content.get("val_result") == other.get("val_result")
        assert content["state_dict"].keys() == other["state_dict"].keys()
        pairs = [
            (key, value, other["state_dict"][key]) for key, value in content["state_dict"].items()
        ]
        if "memory_item" in content:
            pairs.append(("memory_item", content["memory_item"], other["memory_item"]))
        for key, a, b in pairs:
            assert a.dtype == b.dtype, key
            assert torch.equal(a, b), key


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_public_layout_is_converted_to_ours(world, name, tmp_path):
    theirs = world.build(name, tmp_path / "theirs")
    LAYOUTS[name](tmp_path / "public", theirs)
    assert (
        convert("ours", tmp_path / "public", tmp_path / "new/ours", "--backbone", world.clip) == 0
    )
    ours, again = (world.build(name, tmp_path / out) for out in ("a", "b"))
    ours.load_model(str(tmp_path / "new/ours"), epoch=EPOCH)
    again.load_model(str(tmp_path / "public"), epoch=EPOCH)
    for key, value in learned(again).items():
        if not key.endswith("aggregate"):
            assert torch.equal(value, learned(ours)[key]), key
    record = json.loads((tmp_path / "new/ours/checkpoint.json").read_text())
    assert (record["method"], record["backbone"]) == (name, world.clip)
    assert record["checkpoints"] == {f"model.pth.tar-{EPOCH}": {"epoch": EPOCH, "val_result": None}}
    size = sum(path.stat().st_size for path in (tmp_path / "new/ours").rglob("*.pth.tar*"))
    assert size < 200_000, "nothing of CLIP belongs into ours"


def test_round_trip_of_the_release_folder(release_run, tmp_path):
    source = release_run / "release_run"
    assert convert("ours", source, tmp_path / "ours") == 0
    record = json.loads((tmp_path / "ours/checkpoint.json").read_text())
    assert record["method"] == "TextRefinerCoOp"
    assert record["settings"]["TRAINER.COOP.CTX_INIT"] == "a photo of a"
    assert len(record["classes"]) == 5
    clip_file = release_run / "clip_tiny.pt"
    assert convert("release", tmp_path / "ours", tmp_path / "back", "--backbone", clip_file) == 0
    assert_same(files(source), files(tmp_path / "back"))
    for pointer in source.glob("*/checkpoint"):
        name = pointer.parent.name
        assert (tmp_path / "back" / name / "checkpoint").read_text() == pointer.read_text()


@pytest.mark.parametrize("name", ["TextRefinerCoOp", "TextRefinerPromptKD"])
def test_round_trip_of_half_precision_release_folders(world, name, tmp_path):
    LAYOUTS[name](tmp_path / "public", world.build(name, tmp_path / "out"))
    assert convert("ours", tmp_path / "public", tmp_path / "ours") == 0
    back = convert("release", tmp_path / "ours", tmp_path / "back", "--backbone", world.clip)
    assert back == 0
    assert_same(files(tmp_path / "public"), files(tmp_path / "back"))


@pytest.mark.parametrize("name", ["TextRefinerCoOp", "TextRefinerPromptKD"])
def test_round_trip_of_our_run_through_the_release_layout(world, name, tmp_path):
    options = ("TRAIN.CHECKPOINT_FREQ", 1, "OPTIM.MAX_EPOCH", 2)
    trained = world.trained(name, tmp_path / "run", *options)
    assert convert("release", tmp_path / "run", tmp_path / "release") == 0
    assert convert("ours", tmp_path / "release", tmp_path / "ours") == 0
    assert_same(files(tmp_path / "run"), files(tmp_path / "ours"))
    loaded = world.build(name, tmp_path / "out")
    loaded.load_model(str(tmp_path / "release"), epoch=2)
    for key, value in learned(trained).items():
        assert torch.equal(value, learned(loaded)[key]), key


# --- errors: one sentence, exit code 2 and no files ---


@pytest.fixture
def release(world, tmp_path):
    """Return a folder in the release's layout on CoOp."""
    trainer = world.build("TextRefinerCoOp", tmp_path / "out")
    LAYOUTS["TextRefinerCoOp"](tmp_path / "release", trainer)
    return tmp_path / "release"


def refused(capsys, tmp_path, way, source, *options, target="target"):
    """Check that the conversion fails with one sentence, and return it."""
    before = sorted(tmp_path.rglob("*"))
    assert convert(way, source, tmp_path / target, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before, "no partial files remain"
    return error


def spoil(folder, name, change):
    path = folder / name / f"model.pth.tar-{EPOCH}"
    content = torch.load(path)
    change(content["state_dict"])
    torch.save(content, path)


def test_folder_with_a_missing_model(release, tmp_path, capsys):
    shutil.rmtree(release / "Memory")
    error = refused(capsys, tmp_path, "ours", release)
    assert "is incomplete: TextRefiner's Memory is missing" in error
    assert "there is no folder" in refused(capsys, tmp_path, "ours", tmp_path / "nowhere")
    shutil.rmtree(release / "prompt_learner")
    assert "give the output folder of a run" in refused(capsys, tmp_path, "ours", release)


def test_epoch_of_only_one_model(release, tmp_path, capsys):
    path = release / "prompt_learner"
    shutil.copy(path / f"model.pth.tar-{EPOCH}", path / "model.pth.tar-11")
    error = refused(capsys, tmp_path, "ours", release)
    assert "is incomplete: Memory has no model.pth.tar-11" in error


def test_missing_and_unknown_keys(release, tmp_path, capsys):
    spoil(release, "prompt_learner", lambda s: s.update({"image_encoder.adapter": torch.ones(1)}))
    assert "contains image_encoder.adapter" in refused(capsys, tmp_path, "ours", release)
    spoil(release, "prompt_learner", lambda s: s.pop("image_encoder.adapter"))
    spoil(release, "Memory", lambda s: s.update({"reader.weight": torch.ones(1)}))
    error = refused(capsys, tmp_path, "ours", release)
    assert f"model.pth.tar-{EPOCH} of {release} contains Memory.reader.weight, which" in error
    spoil(release, "Memory", lambda s: s.pop("reader.weight"))
    spoil(release, "prompt_learner", lambda s: s.pop("mid_image_trans.conv1.1.bias"))
    assert "it lacks Memory.align.norm.bias" in refused(capsys, tmp_path, "ours", release)


def test_existing_output_folders(release, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("keep")
    error = refused(capsys, tmp_path, "ours", release, target="full")
    assert "exists and is not an empty folder" in error
    (tmp_path / "empty").mkdir()
    assert convert("ours", release, tmp_path / "empty") == 0
    assert "in our layout already" in refused(capsys, tmp_path, "ours", tmp_path / "empty")


def test_another_backbone(world, release, tmp_path, capsys):
    other = ("--backbone", world.teacher_clip)
    assert "set --backbone to" in refused(capsys, tmp_path, "ours", release, *other)
    assert convert("ours", release, tmp_path / "ours") == 0
    assert "set --backbone to" in refused(capsys, tmp_path, "release", tmp_path / "ours", *other)
    error = refused(capsys, tmp_path, "release", tmp_path / "ours")
    assert "does not name the backbone: give it as --backbone" in error


def test_trainers_that_the_release_does_not_have(world, release, tmp_path, capsys):
    world.trained("CoOp", tmp_path / "coop", "OPTIM.MAX_EPOCH", 1)
    error = refused(capsys, tmp_path, "release", tmp_path / "coop")
    assert (
        "contains CoOp, but the release has only TextRefinerCoOp and TextRefinerPromptKD" in error
    )
    assert "has no checkpoint.json" in refused(capsys, tmp_path, "release", release)
    world.trained("TextRefinerKgCoOp", tmp_path / "kgcoop", "OPTIM.MAX_EPOCH", 1)
    error = refused(capsys, tmp_path, "release", tmp_path / "kgcoop")
    assert "contains TextRefinerKgCoOp, but the release has only" in error
    world.trained("TextRefinerATPrompt", tmp_path / "atprompt", "OPTIM.MAX_EPOCH", 1)
    error = refused(capsys, tmp_path, "release", tmp_path / "atprompt")
    assert "contains TextRefinerATPrompt, but the release has only" in error
    world.trained("TextRefinerTCP", tmp_path / "tcp", "OPTIM.MAX_EPOCH", 1)
    error = refused(capsys, tmp_path, "release", tmp_path / "tcp")
    assert "contains TextRefinerTCP, but the release has only" in error


@pytest.mark.parametrize(
    "setting",
    [
        {"READ_SCALE": 10.0},
        {"READ": "mean"},
        {"AGGREGATE": "read"},
        {"RANK": 2},
        {"RENORMALIZE": True},
    ],
    ids=str,
)
def test_a_control_is_not_converted_to_the_release(world, setting, tmp_path, capsys):
    ((key, value),) = setting.items()
    world.trained(
        "TextRefinerCoOp",
        tmp_path / "run",
        f"TRAINER.TEXTREFINER.{key}",
        value,
        "OPTIM.MAX_EPOCH",
        1,
    )
    assert convert("release", tmp_path / "run", tmp_path / "release") == 2
    error = capsys.readouterr().err
    assert f"was trained with TRAINER.TEXTREFINER.{key} {value}, which the release's code" in error
    assert not (tmp_path / "release").exists()
