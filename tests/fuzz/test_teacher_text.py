"""teacher_text.pt: text features by class name."""

from pathlib import Path

import pytest
import torch

from tests.fuzz.archives import PICKLES, archive_of, saved, zip_bomb
from tests.fuzz.harness import bounded, fuzz
from tests.fuzz.values import UNCHANGED, changed
from trainers.checkpoints.teacher_text import FILE, TeacherText, read_teacher_text
from trainers.settings import SettingsError

CONTENT = {
    "classnames": ["face", "yin yang"],
    "features": torch.eye(2),
    "teacher": "ViT-L/14",
    "weights": "teacher.pth.tar",
    "fingerprint": "0" * 64,
    "context": "a photo of a",
}


def check(text: TeacherText | None) -> None:
    """Check what a test uses of the file."""
    assert text is not None
    assert torch.isfinite(text.rows(list(text.features))).all()
    assert all(isinstance(value, str) for value in (*text.features, *text.facts().values()))


def test_files(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        check(read_teacher_text(str(path.parent)))

    fuzz(read, [saved(CONTENT)], tmp_path, FILE, (SettingsError,))


def test_values(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        (tmp_path / FILE).write_bytes(saved(changed(CONTENT, path.read_bytes())))
        check(read_teacher_text(str(tmp_path)))

    fuzz(read, [UNCHANGED], tmp_path, "seed", (SettingsError,))


@pytest.mark.parametrize("name", [*PICKLES, "zip bomb"])
def test_hostile_files(tmp_path: Path, name: str) -> None:
    raw = zip_bomb(saved(CONTENT)) if name == "zip bomb" else archive_of(PICKLES[name])
    (tmp_path / FILE).write_bytes(raw)
    with bounded(), pytest.raises(SettingsError, match="cannot be read as a checkpoint"):
        read_teacher_text(str(tmp_path))
