"""The head and the tail of a run's log."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

import train
from dassl.config import get_cfg_default
from dassl.engine.run_summary import run_head, settings_head
from parse_test_res import END_OF_TRAINING, read_log
from tests.toy_command import console, short_run
from tests.trainers.toy_runs import ToyWorld

__all__ = ["console"]  # a fixture, used by the tests that run train.py


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ToyWorld:
    return ToyWorld(tmp_path_factory.mktemp("world"))


def test_log_of_a_run(world: ToyWorld, tmp_path: Path) -> None:
    options = [
        "DATASET.NUM_SHOTS",
        "4",
        "DATASET.SUBSAMPLE_CLASSES",
        "base",
        "OPTIM.MAX_EPOCH",
        "1",
    ]
    assert train.main([*short_run(world, tmp_path), *options]) == 0
    out = tmp_path / "out"
    log = (out / "log.txt").read_text()
    head = log[log.index("** Settings that differ") : log.index("** Environment **")].splitlines()
    assert "OPTIM.LR: 0.02" in head
    assert "DATASET.NUM_SHOTS: 4" in head
    assert head[-1] == f"All settings: {out}/config.yaml"
    assert "OPTIM.MOMENTUM: 0.9\n" not in log  # a default
    assert "MOMENTUM: 0.9" in (out / "config.yaml").read_text()

    record = json.loads((out / "result.json").read_text())
    classes = record["data"]["classes"]
    images = {part: record["data"][part]["images"] for part in ("train", "val", "test")}
    summary = log[log.index("** Run **") :].splitlines()[1:4]
    assert summary == [
        f"Data: Caltech101, {len(classes)} of {len(record['data']['all_classes'])} classes, "
        "images: " + ", ".join(f"{count} {part}" for part, count in images.items()),
        f"Classes: {', '.join(classes)}",
        f"Backbone: {world.clip}, images 32 x 32, cpu, fp32",
    ]
    lines = log.splitlines()
    assert lines[-1] == f"Record: {out}/result.json"
    assert lines[-2] == (
        f"Result: {record['accuracy']:.2f} % of {record['total']} test images are classified "
        "correctly"
    )
    # The lines that other programs read are as before.
    assert {"Finish training", "=> result"} <= set(lines)
    read = read_log(out / "log.txt", END_OF_TRAINING, "accuracy").metrics
    assert set(read) == {"accuracy", "error", "macro_f1"}
    assert re.search(r"^\* accuracy: \d+\.\d%$", log, re.M)


def trainer_of(names: list[str]) -> SimpleNamespace:
    cfg = SimpleNamespace(
        INPUT=SimpleNamespace(SIZE=(8, 8)), MODEL=SimpleNamespace(BACKBONE=SimpleNamespace(NAME=""))
    )
    dataset = SimpleNamespace(classnames=names, train_x=[0] * 1500, val=None, test=[0])
    return SimpleNamespace(cfg=cfg, device="cpu", dm=SimpleNamespace(dataset=dataset))


def test_many_and_long_class_names_are_shortened() -> None:
    text = run_head(trainer_of([*"abcdefg", "x" * 100]))
    assert f"Classes: a, b, c, ..., f, g, {'x' * 60}..." in text
    assert "Data: SimpleNamespace, 8 classes, images: 1,500 train, 1 test" in text


def test_names_with_line_breaks_remain_on_one_line() -> None:
    assert "Classes: 'a\\nb', c\n" in run_head(trainer_of(["a\nb", "c"]))


def test_zero_is_an_argument_that_was_given() -> None:
    args = Namespace(seed=0, resume="", opts=[], eval_only=False, no_train=True)
    cfg = get_cfg_default()
    assert settings_head(args, cfg, cfg).splitlines() == [
        "** Arguments **",
        "no_train: True",
        "seed: 0",
        "** Settings that differ from the defaults **",
    ]


def test_trainers_of_other_code_bases_need_no_dataset() -> None:
    trainer = trainer_of([])
    del trainer.dm
    assert run_head(trainer) == "** Run **\nBackbone: none, images 8 x 8, cpu"
