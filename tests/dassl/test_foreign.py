"""Logs, configs and settings that programs written for the original Dassl bring along."""

from __future__ import annotations

import sys

import pytest
import torch
from yacs.config import CfgNode

from dassl.config import complete, get_cfg_default
from dassl.data import DataManager
from dassl.data.data_manager import DatasetWrapper, build_data_loader
from dassl.data.transforms import build_transform
from dassl.evaluation import Classification, build_evaluator
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import UsageError
from dassl.utils.logger import Logger
from dassl.utils.tools import is_terminal
from tests.dassl.coop_style import ToyCoOp, toy_cfg
from tests.toy_data import caltech101, data_config


class PlainLogger:
    """A stream with the methods of the original Dassl's Logger and no others."""

    def __init__(self, path):
        self.console, self.file = sys.stdout, open(path, "w")  # noqa: SIM115

    def write(self, msg):
        self.console.write(msg)
        self.file.write(msg)

    def flush(self):
        self.console.flush()
        self.file.flush()


def test_training_and_test_print_to_a_logger_without_isatty(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", PlainLogger(tmp_path / "log.txt"))
    trainer = ToyCoOp(toy_cfg(tmp_path / "out"))
    trainer.train()
    sys.stdout.flush()
    text = (tmp_path / "log.txt").read_text()
    assert "epoch [4/4]" in text
    assert "* accuracy:" in text


def test_a_logger_without_isatty_is_no_terminal(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", PlainLogger(tmp_path / "log.txt"))
    assert is_terminal(sys.stdout) is False
    assert is_terminal(Logger()) is False  # ours around theirs
    assert is_terminal(None) is False


class Terminal:
    def isatty(self):
        return True


def test_a_terminal_is_one():
    assert is_terminal(Terminal()) is True


# What UPL's file of defaults, or another copy of an old Dassl, lacks.
ADDED_HERE = ("DATALOADER.VIEWS", "DATALOADER.FEATURE_STORE", "TEST.SELECT_ON_TEST")
ADDED_HERE += ("OPTIM.ADAM_EPS",)
ADDED_LATER = ("DATALOADER.TRAIN_U", "INPUT.RRCROP_SCALE", "OPTIM.WARMUP_MIN_LR", "DATALOADER.TEST")


def without(cfg, keys):
    """Return a copy of a config without some keys."""
    cfg = cfg.clone()
    cfg.defrost()
    for key in keys:
        *sections, leaf = key.split(".")
        node = cfg
        for section in sections:
            node = node[section]
        node.pop(leaf)
    cfg.freeze()
    return cfg


def all_keys(node, prefix=""):
    for key, value in node.items():
        yield prefix + key
        if isinstance(value, CfgNode):
            yield from all_keys(value, f"{prefix}{key}.")


def settings_of_dassl():
    cfg = get_cfg_default()
    cfg.pop("TRAINER")
    return list(all_keys(cfg))


@pytest.mark.parametrize("key", settings_of_dassl())
def test_a_missing_setting_has_its_default(key):
    assert complete(without(get_cfg_default(), [key])) == get_cfg_default()


def test_a_complete_config_is_returned_itself():
    cfg = get_cfg_default()
    assert complete(cfg) is cfg
    assert complete(cfg.OPTIM, "OPTIM") is cfg.OPTIM


def test_other_settings_and_own_keys_are_kept():
    cfg = without(get_cfg_default(), ADDED_HERE)
    cfg.defrost()
    cfg.OPTIM.LR, cfg.DATASET.CONF_THRESHOLD = 0.5, 0.9
    cfg.freeze()
    filled = complete(cfg)
    assert (filled.OPTIM.LR, filled.DATASET.CONF_THRESHOLD) == (0.5, 0.9)
    assert filled.is_frozen()
    assert "VIEWS" not in cfg.DATALOADER


@pytest.mark.parametrize("missing", [ADDED_HERE, ADDED_LATER], ids=["added here", "added later"])
def test_a_config_of_other_defaults_trains_alike(missing, tmp_path):
    whole = ToyCoOp(toy_cfg(tmp_path / "whole"))
    torch.manual_seed(0)
    partial = ToyCoOp(without(toy_cfg(tmp_path / "partial"), missing))
    partial.model.load_state_dict(whole.model.state_dict())
    for trainer in (whole, partial):
        torch.manual_seed(0)
        trainer.train()
    state = whole.model.state_dict()
    assert all(torch.equal(value, state[k]) for k, value in partial.model.state_dict().items())


def test_every_entry_point_takes_a_config_of_other_defaults(tmp_path):
    caltech101(tmp_path, classes=3, train=3, val=2, test=2)
    cfg = without(
        data_config(tmp_path, "Caltech101"),
        [*ADDED_HERE, *ADDED_LATER, "DATASET.SUBSAMPLE_CLASSES"],
    )
    dm = DataManager(cfg)
    assert len(dm.dataset.train_x) == 9
    transform = build_transform(cfg, is_train=False)
    wrapper = DatasetWrapper(cfg, dm.dataset.test, transform)
    assert wrapper[0]["img"].shape == (3, 32, 32)
    loader = build_data_loader(cfg, data_source=dm.dataset.test, tfm=transform, is_train=False)
    assert len(next(iter(loader))["label"]) == 6
    optimizer = build_optimizer(torch.nn.Linear(2, 2), cfg.OPTIM)
    assert build_lr_scheduler(optimizer, cfg.OPTIM).get_last_lr() == [cfg.OPTIM.LR]
    assert isinstance(build_evaluator(cfg, lab2cname=dm.lab2cname), Classification)


def test_last_val_is_the_last_epoch_and_a_line_says_so(tmp_path, capsys):
    trainer = ToyCoOp(toy_cfg(tmp_path, "TEST.FINAL_MODEL", "last_val"))
    trainer.train()
    out = capsys.readouterr().out
    assert out.count("TEST.FINAL_MODEL last_val is read as last_step") == 1
    assert "Selection rule: last_step (epoch 4 of 4)" in out
    assert not list(tmp_path.rglob("model-best.pth.tar"))


def test_a_misspelled_final_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"FINAL_MODEL 'best_vla' is unknown.*best_val"):
        ToyCoOp(toy_cfg(tmp_path, "TEST.FINAL_MODEL", "best_vla"))
