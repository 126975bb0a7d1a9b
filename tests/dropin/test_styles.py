"""Trainers in the style of public repositories train and test through train.py."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import train
import trainers
from clip import clip
from dassl.engine import TRAINER_REGISTRY, build_trainer
from tests.dassl.test_foreign import PlainLogger, without
from tests.toy_command import console, short_run, swap
from tests.trainers.toy_runs import ToyWorld

__all__ = ["console"]  # a fixture, used by every test here

STYLES = Path(__file__).parent / "styles"
SHOTS = ["DATASET.NUM_SHOTS", "4", "DATASET.SUBSAMPLE_CLASSES", "base", "OPTIM.MAX_EPOCH", "1"]
# Trainer -> its file. All but TaskRes, which has a parameter for each class, also test new classes.
TRAINED = {
    "StyleATPrompt": "atprompt",
    "StyleDePT": "dept",
    "StyleKgCoOp": "kgcoop",
    "StyleSkipTuning": "skiptuning",
    "StyleTCP": "tcp",
    "StyleTaskRes": "taskres",
    "StyleUPL": "upl",
}
CHANGED_CLIP = {
    "StyleMaPLe": "build_model takes the weights alone, but got 1 more positional arguments",
    "StyleMMRL": "this clip has no build_model_MMRL",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


@pytest.fixture
def drop_in(monkeypatch):
    """Return a function that imports a style as a module of trainers/, and extends train.py."""

    def load(name):
        monkeypatch.setattr(TRAINER_REGISTRY, "_obj_map", dict(TRAINER_REGISTRY._obj_map))
        spec = importlib.util.spec_from_file_location(f"trainers.{name}_", STYLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)

        def extend_cfg(cfg):
            trainers.extend_cfg(cfg)
            getattr(module, "extend_cfg", lambda cfg: None)(cfg)

        monkeypatch.setattr(train, "extend_cfg", extend_cfg)
        return module

    return load


def test_every_style_is_used():
    files = {path.stem for path in STYLES.glob("*.py")}
    assert files == {*TRAINED.values(), "maple"}


@pytest.mark.parametrize("name", TRAINED)
def test_style_trains_and_tests(name, drop_in, world, tmp_path):
    module = drop_in(TRAINED[name])
    command = swap(short_run(world, tmp_path), "--trainer", name)
    assert train.main([*command, *SHOTS, *module.OPTIONS]) == 0
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (record["trainer"], record["classes"]) == (name, "base")
    assert (record["selection"], record["epoch"], record["total"]) == ("last_step", 1, 12)
    assert "epoch [1/1]" in (tmp_path / "out" / "log.txt").read_text()

    new = swap(command, "--output-dir", tmp_path / "again")
    new += ["--eval-only", "--model-dir", str(tmp_path / "out"), "--load-epoch", "1"]
    classes = "base" if name == "StyleTaskRes" else "new"
    assert train.main([*new, *SHOTS, *module.OPTIONS, "DATASET.SUBSAMPLE_CLASSES", classes]) == 0
    tested = json.loads((tmp_path / "again" / "result.json").read_text())
    assert (tested["classes"], tested["total"]) == (classes, 12)
    if classes == "base":
        assert tested["accuracy"] == record["accuracy"]


@pytest.mark.parametrize("name", ["StyleUPL", "StyleSkipTuning"])
def test_a_program_with_other_defaults_trains(name, drop_in, world, tmp_path):
    """UPL and SkipTuning have start scripts with copies of an older Dassl's defaults."""
    module = drop_in(TRAINED[name])
    options = [*module.OPTIONS, "TEST.NO_TEST", "False", "OPTIM.WARMUP_TYPE", "linear"]
    cfg = without(world.cfg(name, tmp_path, *options), module.MISSING)
    trainer = build_trainer(cfg)
    trainer.train()
    again = build_trainer(cfg)
    again.load_model(str(tmp_path), epoch=3)
    assert again.test() == trainer.last_test["accuracy"]


@pytest.mark.parametrize("name", CHANGED_CLIP)
def test_a_trainer_for_a_changed_clip_is_told_what_works(name, drop_in, world, tmp_path, capsys):
    drop_in("maple")
    command = swap(short_run(world, tmp_path), "--trainer", name)
    assert train.main([*command, *SHOTS]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    root = Path(train.__file__).parent
    assert line == (
        f"error: {CHANGED_CLIP[name]}, so its trainer needs the changed clip/ of its repository: "
        f"in that repository run PYTHONPATH={root} python train.py ..., which uses its clip/ and "
        "trainers/ with this project's dassl (docs/coop_users.md)"
    )


def test_functions_of_a_changed_clip_are_not_attributes():
    assert not hasattr(clip, "build_model_MMRL")
    assert not hasattr(clip, "load_lora")


def test_dept_prints_to_its_own_logger(drop_in, world, tmp_path, monkeypatch):
    """DePT's Logger, like the original Dassl's, has no isatty."""
    drop_in("dept")
    monkeypatch.setattr(sys, "stdout", PlainLogger(tmp_path / "own.txt"))
    options = ["TRAINER.COOP.PREC", "fp32", "OPTIM.MAX_EPOCH", "1", "TEST.NO_TEST", "False"]
    cfg = world.cfg("StyleDePT", tmp_path / "out", *options).clone()
    cfg.defrost()
    sys.modules["trainers.dept_"].extend_cfg(cfg)
    trainer = TRAINER_REGISTRY.get("StyleDePT")(cfg)
    trainer.train()
    sys.stdout.flush()
    assert "* accuracy:" in (tmp_path / "own.txt").read_text()
