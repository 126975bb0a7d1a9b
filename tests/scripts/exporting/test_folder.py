"""The output folder appears complete or not at all, and only an earlier export is replaced."""

import json
import shutil
from pathlib import Path

import pytest

from scripts.exporting import card
from scripts.exporting import folder as folders
from scripts.exporting.formats import FORMATS
from tests.scripts.exporting.commands import export, require, sentence
from tests.trainers.classifier.runs import Runs


def test_only_an_earlier_export_is_replaced(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = runs.folder("CoOp"), tmp_path / "deep" / "out"
    assert export(run, out, "--to", "open_clip") == 0
    assert export(run, out, "--to", "matrix", "--classes", "cat, dog") == 0
    assert not (out / "open_clip_config.json").exists()
    assert json.loads((out / "export.json").read_text())["classes"] == ["cat", "dog"]
    assert list(out.parent.iterdir()) == [out]
    (tmp_path / "link").symlink_to(out)
    assert export(run, tmp_path / "link", "--to", "matrix") == 0
    assert len(json.loads((out / "export.json").read_text())["classes"]) == 3
    for content in ("{}", "[", '{"made_by": "me"}', None):
        other = tmp_path / "other"
        shutil.rmtree(other, ignore_errors=True)
        other.mkdir()
        (other / "precious.txt").touch()
        if content:
            (other / "export.json").write_text(content)
        message = sentence(capsys, run, other, "--to", "matrix")
        assert "exists and is not an earlier export: choose another folder" in message
        assert (other / "precious.txt").exists()
    assert "not an earlier export" in sentence(capsys, run, run, "--to", "matrix")
    (tmp_path / "file").touch()
    assert "not an earlier export" in sentence(capsys, run, tmp_path / "file", "--to", "matrix")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("exists", [False, True])
def test_nothing_is_left_after_a_failure(
    name: str,
    exists: bool,
    runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The disk is full when the model card is written, the last file."""
    require(name)
    out = tmp_path / "out"
    if exists:
        assert export(runs.folder("CoOp"), out, "--to", "matrix") == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()} if exists else None

    def full(folder: Path, text: str) -> None:
        assert len(list(folder.iterdir())) >= 2
        raise OSError(28, "No space left on device", str(folder / "README.md"))

    monkeypatch.setattr(card, "write_card", full)
    capsys.readouterr()
    assert export(runs.folder("CoOp"), out, "--to", name) == 74
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith(f"error: {str(out)!r} cannot be used (no space left on device)")
    assert list(tmp_path.iterdir()) == ([out] if exists else [])
    if exists:
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_failed_rename_restores_the_earlier_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "export.json").write_text('{"made_by": "scripts/export.py"}')
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if target == out and not self.name.endswith(".old"):
            raise OSError(5, "Input/output error", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Input/output error") as caught, folders.new_export(out):
        pass
    assert caught.value.filename == str(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "export.json").exists()
