"""PromptKD's teachers: checkpoints of PromptSRC with other values."""

from pathlib import Path

import pytest
import torch

from dassl.utils import UsageError
from tests.fuzz.archives import saved
from tests.fuzz.harness import fuzz
from tests.fuzz.values import UNCHANGED, changed
from tests.toy import toy_clip
from tests.trainers.toy_runs import TEACHER_SIZES, save_teacher
from trainers.checkpoints.teacher import check_classes, load_teacher
from trainers.settings import SettingsError


def test_values(tmp_path: Path) -> None:
    clip_model = toy_clip(**TEACHER_SIZES).requires_grad_(False)
    content = torch.load(save_teacher(tmp_path / "teacher.pth.tar"))
    file = tmp_path / "run" / "VLPromptLearner" / "model.pth.tar-20"
    file.parent.mkdir(parents=True)

    def read(path: Path) -> None:
        file.write_bytes(saved(changed(content, path.read_bytes())))
        teacher = load_teacher(clip_model, ["face", "cat"], str(file), "a photo of a")
        assert all(torch.isfinite(value).all() for value in teacher.deep.state_dict().values())

    fuzz(read, [UNCHANGED], tmp_path, "seed", (SettingsError, UsageError))


def test_checkpoint_json(tmp_path: Path) -> None:
    (tmp_path / "VLPromptLearner").mkdir()
    weights = str(tmp_path / "VLPromptLearner/model.pth.tar-20")
    seed = b'{"classes": ["face", "cat"], "clip": {}, "backbone": "ViT-L/14", "settings": {}}'

    def read(path: Path) -> None:
        check_classes(weights, ["face", "cat", "dog"], "Caltech101")

    fuzz(read, [seed], tmp_path, "checkpoint.json", (SettingsError, UsageError))


@pytest.mark.parametrize("classes", ['"face"', "[1, 2]", '{"face": 0}', "7"])
def test_classes_of_another_form(tmp_path: Path, classes: str) -> None:
    (tmp_path / "checkpoint.json").write_text(f'{{"classes": {classes}}}')
    with pytest.raises(SettingsError, match="its classes have another form"):
        check_classes(str(tmp_path / "VLPromptLearner/model.pth.tar-20"), ["face"], "Caltech101")
