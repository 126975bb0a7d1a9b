"""Wrong usage of scripts/export.py: one sentence, exit code 2, and nothing is written."""

import sys
from pathlib import Path

import pytest

from tests.scripts.exporting.commands import require, sentence
from tests.trainers.classifier.runs import Runs


def test_a_missing_package_is_named(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "scripts.exporting.onnx_model", raising=False)
    message = sentence(capsys, runs.folder("CoOp"), tmp_path / "out", "--to", "onnx")
    assert "--to onnx needs the package onnxruntime: pip install -r requirements-export" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "matrix", "--images", "a.png"], "--images is for the check of --to onnx"),
        (["--to", "matrix", "--epoch", "9"], "has no checkpoint of epoch 9"),
        (["--to", "matrix", "--classes", "cat,"], "got an empty one"),
        (["--to", "onnx", "--images", "none.png"], "no image at 'none.png'"),
    ],
)
def test_wrong_usage(
    words: list[str],
    message: str,
    runs: Runs,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    require(words[1])
    assert message in sentence(capsys, runs.folder("CoOp"), tmp_path / "out", *words)
    assert list(tmp_path.iterdir()) == []
