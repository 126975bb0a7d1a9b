"""scripts/predict.py: formats, images that cannot be read, and the trainer's own numbers."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import torch

from scripts.predict import find_images, main
from tests.toy import save_toy_clip
from tests.trainers.classifier.runs import METHODS, Runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


def predict(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of the command."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    return (code, *capsys.readouterr())


@pytest.mark.parametrize("method", METHODS)
def test_scores_equal_the_trainers(
    method: str, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, trainer = runs.folder(method), runs.trainer(method)
    code, out, _ = predict(capsys, folder, *runs.images, "--format", "json", "--top-k", 9)
    assert code == 0
    infer, names = trainer.inference(), trainer.dm.dataset.classnames
    batches = list(trainer.test_loader)
    images = {
        path: image for b in batches for path, image in zip(b["impath"], b["img"], strict=True)
    }
    items = {item["path"]: item["predictions"] for item in json.loads(out)}
    assert list(items) == runs.images
    compared = 0
    for path in set(items) & set(images):
        with torch.no_grad():
            expected = infer(images[path][None]).softmax(dim=1)[0]
        found = {row["class"]: row["score"] for row in items[path]}
        values = torch.tensor([found[name] for name in names])
        torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-6)
        compared += 1
    assert compared == 3


def test_formats_agree(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    words = (runs.folder("CoOp"), *runs.images, "--classes", "ant, bee,wasp", "--top-k", 2)
    _, out, _ = predict(capsys, *words, "--format", "json")
    expected = [
        (i["path"], r["class"], r["score"]) for i in json.loads(out) for r in i["predictions"]
    ]
    assert len(expected) == 6
    assert {name for _, name, _ in expected} <= {"ant", "bee", "wasp"}
    _, out, _ = predict(capsys, *words, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["rank"] for row in rows] == ["1", "2"] * 3
    for row, (path, name, score) in zip(rows, expected, strict=True):
        assert (row["path"], row["class"]) == (path, name)
        assert float(row["score"]) == pytest.approx(score, rel=1e-5)
    _, out, err = predict(capsys, *words)
    lines = out.splitlines()
    assert len(lines) == 3
    for line, (path, name, score) in zip(lines, expected[::2], strict=True):
        assert line.split()[:4] == [path, name, f"{100 * score:.1f}", "%"]
    assert "CoOp on" in err


def test_unreadable_images_are_listed_at_the_end(
    runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    shutil.copy(runs.images[0], tmp_path / "good.jpg")
    shutil.copy(runs.images[1], tmp_path / "sub" / "good, too.JPG")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.jpg").touch()
    for style in ("csv", "json", "table"):
        code, out, err = predict(
            capsys, runs.folder("CoOp"), tmp_path, "--format", style, "--batch-size", 1
        )
        assert code == 1
        assert "good.jpg" in out
        assert "good, too.JPG" in out
        assert "broken.png" not in out
        listed = err.splitlines()[-3:]
        assert listed[0] == "2 of 4 images could not be read:"
        assert "broken.png" in listed[1]
        assert "empty.jpg" in listed[2]
        assert "Traceback" not in err


def test_images_are_found_once_and_in_order(runs: Runs, tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a.jpg", "c.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_images([f"{tmp_path}/c.gif", str(tmp_path), f"{tmp_path}/**/*.png"])
    assert found == [f"{tmp_path}/{name}" for name in ("c.gif", "a.jpg", "b/1.png", "b/2.png")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.jpg"], "'none.jpg' is a path without files: give images"),
        (["tests/data/[x].png"], "is a path without files"),
        (["IMAGE", "--top-k", "0"], "--top-k must be at least 1, got 0"),
        (["IMAGE", "--epoch", "9"], "has no checkpoint of epoch 9"),
        (["IMAGE", "--classes", "cat,,dog"], "got an empty one"),
        (["IMAGE", "--device", "tpu"], "device 'tpu' cannot be used"),
        (["IMAGE", "--batch-size", "0"], "batch_size must be at least 1, got 0"),
        (["IMAGE", "--backbone", "OTHER"], "set backbone to the backbone of the training"),
        (["IMAGE", "--set", "TRAINER.COOP.CTX", "1"], "has the setting TRAINER.COOP.CTX"),
    ],
)
def test_wrong_usage_is_one_sentence(
    words: list[str],
    message: str,
    runs: Runs,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    given = {"IMAGE": runs.images[0], "OTHER": str(save_toy_clip(tmp_path / "clip.pt", seed=5))}
    words = [given.get(word, word) for word in words]
    code, out, err = predict(capsys, runs.folder("CoOp"), *words)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("error: ") == err.count("\n") == 1


def test_a_folder_that_is_no_run(
    runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = predict(capsys, tmp_path, runs.images[0])
    assert code == 2
    assert "has no checkpoint.json" in err
    code, _, err = predict(capsys, runs.folder("CoOp"), tmp_path)
    assert code == 2
    assert "is a folder without images" in err
