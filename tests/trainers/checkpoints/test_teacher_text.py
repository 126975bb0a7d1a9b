"""The teacher's text features are saved with the student, so that tests need no teacher."""

import os
import shutil

import pytest
import torch

import train
from tests.trainers.toy_runs import ToyWorld, save_teacher
from trainers.checkpoints.teacher_text import FILE, read_teacher_text, write_teacher_text
from trainers.settings import SettingsError

GONE = ("TRAINER.PROMPTKD.TEACHER_NAME", "gone.pt", "TRAINER.PROMPTKD.TEACHER_WEIGHTS", "gone.tar")
NEW = ("DATASET.SUBSAMPLE_CLASSES", "new")
TRAINERS = ("PromptKD", "TextRefinerPromptKD")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = ToyWorld(tmp_path_factory.mktemp("world"))
    for name in TRAINERS:
        world.trained(name, world.folder / name, "OPTIM.MAX_EPOCH", 1)
    return world


@pytest.fixture
def student(world, tmp_path):
    """Return a copy, which may be modified, of the folder of a student of the base classes."""
    return str(shutil.copytree(world.folder / "PromptKD", tmp_path / "student"))


def keep(folder, *names):
    """Remove all other class names from the file in ``folder``."""
    text = read_teacher_text(folder)
    write_teacher_text(text._replace(features={n: text.features[n] for n in names}), folder)


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize("classes", ["base", "new", "all"])
def test_testing_needs_no_teacher(world, name, classes, tmp_path, capsys):
    folder, part = str(world.folder / name), ("DATASET.SUBSAMPLE_CLASSES", classes)
    with_teacher = world.build(name, tmp_path / "a", *part)
    capsys.readouterr()
    without = world.build(name, tmp_path / "b", *part, *GONE, "MODEL_DIR", folder)
    count = len(without.dm.dataset.classnames)
    expected = f'Teacher: not loaded; the text features of {count} class names come from "{folder}'
    assert expected in capsys.readouterr().out
    assert without.model.learner.teacher is None
    image = torch.randn(3, 3, 32, 32)
    for trainer in (with_teacher, without):
        trainer.load_model(folder, epoch=1)
        trainer.set_model_mode("eval")
    with torch.no_grad():
        found, expected = (t.model_inference(image) for t in (without, with_teacher))
    assert expected.shape == (3, count)
    torch.testing.assert_close(found, expected)


def test_file_contains_every_class_of_the_dataset_and_the_teacher(world):
    text = read_teacher_text(str(world.folder / "PromptKD"))
    assert sorted(text.features) == sorted(name.replace("_", " ") for name in world.classnames)
    assert (text.teacher, text.weights) == (world.teacher_clip, world.teacher)
    assert text.context == "a photo of a"
    for row in text.features.values():
        torch.testing.assert_close(row.norm(), torch.tensor(1.0))


def test_features_of_other_names_are_computed_by_the_teacher(world, student, tmp_path, capsys):
    base, new = world.classnames[:3], world.classnames[3:]
    keep(student, *(name.replace("_", " ") for name in base))
    built = world.build("PromptKD", tmp_path / "run", *NEW, "MODEL_DIR", student)
    assert f"{FILE} lacks {', '.join(new)} (3 class names) of 3: loading the teacher" in (
        capsys.readouterr().out
    )
    plain = world.build("PromptKD", tmp_path / "plain", *NEW)
    assert torch.equal(built.model.learner.teacher_text, plain.model.learner.teacher_text)


def test_missing_names_without_a_teacher_are_named(world, student, tmp_path):
    keep(student, *(name.replace("_", " ") for name in world.classnames[:3]))
    message = f"no text features for {', '.join(world.classnames[3:])} .*no teacher at gone.tar"
    with pytest.raises(SettingsError, match=message):
        world.build("PromptKD", tmp_path / "run", *NEW, *GONE, "MODEL_DIR", student)


def another_teacher(folder):
    path = save_teacher(folder / "another.pth.tar")
    content = torch.load(path, weights_only=True)
    content["state_dict"]["prompt_learner.ctx"] += 0.1
    torch.save(content, path)
    return ("TRAINER.PROMPTKD.TEACHER_WEIGHTS", str(path))


def test_another_teacher_raises(world, student, tmp_path):
    keep(student, world.classnames[0].replace("_", " "))
    given = another_teacher(tmp_path)
    message = f"was distilled from another teacher.*{world.teacher}.*than the one in {given[1]}"
    with pytest.raises(SettingsError, match=message):
        world.build("PromptKD", tmp_path / "run", *NEW, *given, "MODEL_DIR", student)
    with pytest.raises(SettingsError, match=message):
        world.trained("PromptKD", student, *given)  # 3 epochs: it would resume
    shutil.rmtree(f"{student}/VLPromptLearner")
    world.trained("PromptKD", student, *given, "OPTIM.MAX_EPOCH", 1)  # it starts from scratch
    assert read_teacher_text(student).weights == given[1]


def test_another_teacher_raises_without_the_file(world, student, tmp_path):
    """checkpoint.json records the teacher as well."""
    os.remove(os.path.join(student, FILE))
    given = another_teacher(tmp_path)
    message = f"was distilled from another teacher.*{world.teacher}.*than the one in {given[1]}"
    with pytest.raises(SettingsError, match=message):
        world.build("PromptKD", tmp_path / "run", *NEW, *given, "MODEL_DIR", student)
    with pytest.raises(SettingsError, match=message):
        world.trained("PromptKD", student, *given)  # 3 epochs: it would resume


def test_folder_that_does_not_record_its_teacher_prints_a_warning(world, student, tmp_path, capsys):
    os.remove(os.path.join(student, FILE))
    os.remove(os.path.join(student, "checkpoint.json"))
    world.build("PromptKD", tmp_path / "run", *NEW, "MODEL_DIR", student)
    assert f"warning: {student} does not record its teacher" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"features": torch.full((6, 48), torch.nan)}, "its features are not finite"),
        (
            {"features": torch.ones(6, 48).long()},
            "its features are no matrix of floating-point numbers",
        ),
        ({"features": torch.ones(5, 48)}, "it has 5 features for 6 classnames"),
        ({"features": torch.ones(6)}, "its features are no matrix of floating-point numbers"),
        ({"classnames": ["face"] * 6}, "its classnames are not unique"),
        ({"classnames": [1, 2, 3, 4, 5, 6]}, "its classnames are no list of texts"),
        ({"fingerprint": None}, "its fingerprint is no text"),
    ],
)
def test_contents_of_another_form(student, change, reason):
    path = os.path.join(student, FILE)
    torch.save({**torch.load(path), **change}, path)
    with pytest.raises(SettingsError, match=f"a teacher's text features .{reason}.*delete it"):
        read_teacher_text(student)


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_damaged_file_is_reported_in_one_sentence(world, student, content, tmp_path):
    path = os.path.join(student, FILE)
    if content is None:
        torch.save({"classnames": ["cat"]}, path)
    else:
        with open(path, "wb") as file:
            file.write(content)
    with pytest.raises(
        SettingsError, match=r"does not contain a teacher's text features \(.*delete it"
    ):
        world.build("PromptKD", tmp_path / "run", "MODEL_DIR", student)


def test_folder_without_the_file_needs_the_teacher(world, student, tmp_path):
    os.remove(os.path.join(student, FILE))
    assert world.build("PromptKD", tmp_path, "MODEL_DIR", student).model.learner.teacher is not None
    with pytest.raises(SettingsError, match=r"there is no teacher at gone.tar: train one"):
        world.build("PromptKD", tmp_path, *GONE, "MODEL_DIR", student)


def test_model_built_for_testing_cannot_be_trained(world, tmp_path):
    built = world.build("PromptKD", tmp_path, "MODEL_DIR", str(world.folder / "PromptKD"))
    with pytest.raises(SettingsError, match=r"the teacher was not loaded.*leave it out to train"):
        built.train()


def test_the_flag_is_part_of_the_config():
    args = train.build_parser().parse_args(["--eval-only", "--model-dir", "output/2024"])
    assert train.setup_cfg(args)[0].MODEL_DIR == "output/2024"
