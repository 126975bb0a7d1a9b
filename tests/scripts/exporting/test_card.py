"""The model card names the accuracy of exactly the exported model."""

import json
import shutil
from pathlib import Path

import pytest

from tests.scripts.exporting.commands import export, sentence
from tests.trainers.classifier.runs import Runs


def card_of(run: Path, out: Path, *words: object) -> str:
    assert export(run, out, "--to", "matrix", *words) == 0
    return (out / "README.md").read_text()


def test_the_card_names_the_accuracy_of_this_model_only(runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs.folder("TextRefinerCoOp", "TRAIN.CHECKPOINT_FREQ", 1), run)
    assert "| accuracy | not recorded: the run folder has no result.json |" in card_of(
        run, tmp_path / "out"
    )
    result = {
        "trainer": "TextRefinerCoOp",
        "dataset": "Caltech101",
        "source": "Caltech101",
        "classes": "base",
        "accuracy": 91.23456,
        "split": "test",
        "selection": "last_step",
        "epoch": 2,
        "total": 1200,
        "command": "python train.py --seed 1",
    }

    def card(*words: object, **changes: object) -> str:
        (run / "result.json").write_text(json.dumps({**result, **changes}))
        return card_of(run, tmp_path / "out", *words)

    text = card()
    expected = "91.23 % on 1,200 test images of Caltech101, base classes; selection: last_step"
    assert f"| accuracy | {expected} |" in text
    assert "    python train.py --seed 1\n" in text
    assert "| training data | Caltech101, 2 images per class, base classes, seed 1 |" in text
    assert "| checkpoint | epoch 2 of 2 (last_step) |" in text
    header = text.split("---\n")[1]
    assert "license: other\n" in header
    assert "- textrefiner\n" in header
    other = (
        "| accuracy | not recorded: the newest test in the run folder is of another checkpoint |"
    )
    assert other in card("--epoch", 1)
    assert other in card(trainer="CoOp")
    elsewhere = "not recorded: the newest test in the run folder is of other data or classes"
    assert elsewhere in card("--classes", "cat,dog")
    assert elsewhere in card(source="ImageNet")


def test_a_broken_result_is_one_sentence(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs.folder("CoOp"), run)
    (run / "result.json").write_text('{"accuracy": "high"}')
    message = sentence(capsys, run, tmp_path / "out", "--to", "matrix")
    assert "result.json' is not valid" in message
    assert not (tmp_path / "out").exists()
