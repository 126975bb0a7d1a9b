"""The model card names the accuracy of exactly the exported model."""

import json
import shutil
from pathlib import Path

import pytest

from tests.scripts.exporting.commands import export, sentence
from tests.trainers.classifier.runs import Runs

BEST = ("TRAIN.CHECKPOINT_FREQ", 1, "TEST.FINAL_MODEL", "best_val", "TEST.NO_TEST", False)


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
        "config": "toy",
        "seed": 1,
        "shots": 2,
        "backbone": "toy",
        "correct": 1095,
        "settings": {},
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


def test_the_card_of_the_best_epoch_and_of_zero_shot(runs: Runs, tmp_path: Path) -> None:
    fields = {
        "dataset": "Caltech101",
        "source": "Caltech101",
        "classes": "all",
        "accuracy": 50.0,
        "split": "test",
        "total": 10,
        "correct": 5,
        "config": "toy",
        "seed": 1,
        "shots": 2,
        "backbone": "toy",
        "settings": {},
    }
    run = tmp_path / "best"
    shutil.copytree(runs.folder("CoOp", *BEST), run)
    for selection, expected in (("best_val", "50.00 %"), ("epoch 1", "not recorded")):
        result = {**fields, "trainer": "CoOp", "selection": selection, "epoch": 1}
        (run / "result.json").write_text(json.dumps(result))
        assert f"| accuracy | {expected}" in card_of(run, tmp_path / "out")
    run = tmp_path / "zero-shot"
    run.mkdir()
    cfg = runs.world.cfg("ZeroshotCLIP", run)
    (run / "config.yaml").write_text(cfg.dump())
    result = {**fields, "trainer": "ZeroshotCLIP", "selection": "zero-shot", "epoch": None}
    names = runs.world.classnames
    data = {"name": "Caltech101", "root": "", "classes": names, "all_classes": names}
    (run / "result.json").write_text(json.dumps({**result, "data": data}))
    words = ("--classes", ",".join(names))
    text = card_of(run, tmp_path / "out", *words)
    assert "| accuracy | 50.00 % on 10 test images of Caltech101, all classes;" in text
    assert "not trained (zero-shot)" in text
    assert "| accuracy | not recorded" in card_of(run, tmp_path / "out", "--classes", "a,b")


def test_a_broken_result_is_one_sentence(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs.folder("CoOp"), run)
    (run / "result.json").write_text('{"accuracy": "high"}')
    message = sentence(capsys, run, tmp_path / "out", "--to", "matrix")
    assert "result.json' is not valid" in message
    assert not (tmp_path / "out").exists()
