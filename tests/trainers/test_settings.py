"""Config nodes: defaults, the release's names, and code bases without these nodes."""

import pytest
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from trainers.settings import RefinerSettings, SettingsError, extend_cfg, map_release_keys, node


@pytest.fixture
def cfg():
    cfg = get_cfg_default()
    extend_cfg(cfg)
    return cfg


def test_defaults_match_the_release(cfg):
    settings = RefinerSettings.from_cfg(cfg, "COOP")
    assert (settings.cache_size, settings.momentum, settings.alpha) == (25, 0.8, 0.2)
    assert (settings.topk, settings.local_weight, settings.reg_weight) == (5, 0.02, 20.0)
    assert settings == RefinerSettings()
    assert cfg.TRAINER.COOP.N_CTX == 16
    assert cfg.TRAINER.COOP.PREC == "fp16"
    assert cfg.DATASET.SUBSAMPLE_CLASSES == "all"


def test_existing_keys_are_kept_and_missing_keys_added():
    cfg = get_cfg_default()
    cfg.TRAINER.COOP = CfgNode({"N_CTX": 3, "OWN": 1})
    extend_cfg(cfg)
    assert (cfg.TRAINER.COOP.N_CTX, cfg.TRAINER.COOP.OWN) == (3, 1)
    assert cfg.TRAINER.COOP.CLASS_TOKEN_POSITION == "end"
    assert node(cfg, "COOP").N_CTX == 3
    assert node(cfg, "COOP").CTX_INIT == ""


def test_defaults_are_used_without_the_nodes():
    cfg = get_cfg_default()
    cfg.freeze()
    assert RefinerSettings.from_cfg(cfg, "COOP").cache_size == 25


def test_release_names_are_mapped_and_logged_once(cfg):
    cfg.merge_from_list(
        [
            *("TRAINER.TF.MEMORY_SIZE", 50, "TRAINER.TF.ALPHA", 0.1),
            *("TRAINER.TF.BALANCE", 25.0, "TRAINER.TF.DISTILL", 0),
        ]
    )
    lines = map_release_keys(cfg)
    settings = RefinerSettings.from_cfg(cfg, "COOP")
    assert (settings.cache_size, settings.alpha) == (50, 0.1)
    assert (settings.local_weight, settings.reg_weight) == (0.04, 0.0)
    lines, adopted = [value.line(cfg) for value in lines], lines
    assert "TRAINER.TF.BALANCE 25.0 sets TRAINER.TEXTREFINER.LOCAL_WEIGHT 0.04" in lines
    cfg.TRAINER.TEXTREFINER.ALPHA = 0.5
    assert "ALPHA 0.1, a later setting makes it 0.5" in adopted[1].line(cfg)
    assert len(lines) == 4
    assert map_release_keys(cfg) == []


@pytest.mark.parametrize("value", [0, -1.0])
def test_loss_factor_must_be_positive(cfg, value):
    cfg.TRAINER.TF.BALANCE = value
    with pytest.raises(SettingsError, match="must be > 0, got"):
        map_release_keys(cfg)


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("MEMORY_SIZE", "abc", "whole number"),
        ("MEMORY_SIZE", 2.5, "whole number"),
        ("BALANCE", float("inf"), "finite number"),
        ("ALPHA", [1], "finite number"),
        ("DISTILL", True, "finite number"),
    ],
)
def test_release_values_must_be_numbers(cfg, key, value, kind):
    cfg.TRAINER.TF[key] = value
    with pytest.raises(SettingsError, match=f"TRAINER.TF.{key} must be a {kind}.*, got"):
        map_release_keys(cfg)


def test_promptkd_has_its_own_loss_weights(cfg):
    settings = RefinerSettings.from_cfg(cfg, "PROMPTKD")
    assert (settings.local_weight, settings.reg_weight) == (0.01, 0.02)
    cfg.TRAINER.TEXTREFINER.REG_WEIGHT = 5.0
    with pytest.raises(SettingsError, match=r"set TRAINER\.PROMPTKD\.REG_WEIGHT"):
        RefinerSettings.from_cfg(cfg, "PROMPTKD")
