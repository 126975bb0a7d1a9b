"""Checkpoints of the public code load with every key accounted for."""

import pytest
import torch

from tests.trainers.public_layouts import EPOCH, LAYOUTS
from tests.trainers.toy_runs import ToyWorld, learned
from trainers.settings import SettingsError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def folders(world, tmp_path_factory):
    """Return, by name, a trainer with unique weights and its folder in the public layout."""
    made = {}
    for name, write in LAYOUTS.items():
        folder = tmp_path_factory.mktemp(name)
        trainer = world.build(name, folder / "out", "SEED", 7)
        generator = torch.Generator().manual_seed(1)
        for module in trainer.model.trainable_modules().values():
            for value in module.state_dict().values():
                if value.is_floating_point():
                    value.copy_(torch.rand(value.shape, generator=generator))
        write(folder / "public", trainer)
        made[name] = trainer, folder / "public"
    return made


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_public_folder_loads(world, folders, name, tmp_path):
    theirs, folder = folders[name]
    ours = world.build(name, tmp_path)
    ours.load_model(str(folder), epoch=EPOCH)
    expected = learned(theirs)
    for key, value in learned(ours).items():
        if key.endswith("VLPromptLearner.aggregate"):
            continue
        half = expected[key].half().to(value.dtype) if value.is_floating_point() else expected[key]
        kept = key.startswith("Memory.") and "align" not in key
        kept |= key.startswith("clip_adapter.")  # whose code trains in float32
        assert torch.equal(value, expected[key] if kept else half), key
    assert ours.test() >= 0


@pytest.mark.parametrize("name", LAYOUTS)
def test_unexpected_key_is_named(world, folders, name, tmp_path):
    _, folder = folders[name]
    for file in sorted(folder.rglob("model.pth.tar*")):
        content = torch.load(file)
        content["state_dict"]["image_encoder.adapter.weight"] = torch.zeros(2)
        target = tmp_path / "spoiled" / file.parent.name / file.name
        target.parent.mkdir(parents=True)
        torch.save(content, target)
    with pytest.raises(SettingsError, match=r"image_encoder\.adapter\.weight"):
        world.build(name, tmp_path / "out").load_model(str(tmp_path / "spoiled"), epoch=EPOCH)


def test_published_teacher_may_contain_buffers_of_both_class_groups(world, folders, tmp_path):
    file = folders["PromptSRC"][1] / "VLPromptLearner" / f"model.pth.tar-{EPOCH}"
    content = torch.load(file)
    for key in ("token_prefix", "token_suffix"):
        value = content["state_dict"][f"prompt_learner.{key}"]
        content["state_dict"][f"prompt_learner.{key}2"] = value
    torch.save(content, tmp_path / "teacher.pth.tar")
    options = [
        *("TRAINER.PROMPTKD.TEACHER_WEIGHTS", str(tmp_path / "teacher.pth.tar")),
        *("TRAINER.PROMPTKD.TEACHER_NAME", world.clip),
    ]
    assert world.build("PromptKD", tmp_path, *options).model.learner.text_dim == 32
