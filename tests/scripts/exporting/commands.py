"""Run scripts/export.py in a test, and skip formats whose packages are not installed."""

from importlib.metadata import PackageNotFoundError, version

import pytest

from scripts import export as script

PACKAGES: dict[str, tuple[str, ...]] = {
    "matrix": (),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "open_clip": ("open_clip_torch",),
    "transformers": ("transformers",),
}
OLDEST = {"open_clip_torch": 3}  # earlier ones cannot load a folder


def require(name: str) -> None:
    """Skip a test of a format whose packages are not installed."""
    for package in PACKAGES[name]:
        try:
            found = version(package)
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed: pip install -r requirements-export.txt")
        if int(found.split(".")[0]) < OLDEST.get(package, 0):
            pytest.skip(f"{package} {found} cannot load a folder")


def export(*words: object) -> int:
    return script.main([str(word) for word in words])


def sentence(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Check that the command ends with one sentence and exit code 2, and return the sentence."""
    capsys.readouterr()
    assert export(*words) == 2
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert out == ""
    assert len(errors) == 1
    assert "Traceback" not in err
    return errors[0]
