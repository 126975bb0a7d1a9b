"""Mutated config files: merged, or refused by a UsageError."""

import shutil
from pathlib import Path

import trainers
from dassl.config import get_cfg_default, merge_file
from dassl.config.flat import read_config
from dassl.engine.settings import check_settings
from dassl.utils import UsageError
from tests.fuzz.harness import fuzz
from trainers.settings import SettingsError, check_inputs, check_rows, map_release_keys

CONFIGS = Path(__file__).parents[2] / "configs" / "trainers"
OTHER = b"""
OPTIM: &optim
  LR: 1e-3
  STEPSIZE: [3, 5]
  WARMUP_RECOUNT: False
TRAIN: {<<: {CHECKPOINT_FREQ: 3}, PRINT_FREQ: 5}
INPUT: {SIZE: "(224, 224)", PIXEL_MEAN: [0.5, 0.5, 0.5], TRANSFORMS: ["normalize"]}
DATASET: {NAME: 'Critters', SOURCE_DOMAINS: [a, b], ROOT: "da\\tta"}
TRAINER: {TF: {BALANCE: 25.0, MEMORY_SIZE: 50}, TEXTREFINER: {ALPHA: 0.5, CACHE: yes}}
"""


def read(path: Path) -> None:
    """Merge and check a config as train.py does, and read it as planning does."""
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    merge_file(cfg, path)
    map_release_keys(cfg)
    check_settings(cfg)
    check_rows(cfg)
    check_inputs(cfg)
    read_config(path)


def test_configs(tmp_path: Path) -> None:
    folder = tmp_path / "trainers" / "CoOp"
    shutil.copytree(CONFIGS, folder.parent)  # so that each _BASE_ is found beside the mutants
    contents = [path.read_bytes() for path in sorted(CONFIGS.glob("*/*.yaml"))]
    seeds = [OTHER, *(content for content in contents if b"_BASE_: ../base" in content)]
    found = fuzz(read, seeds, folder, "mutant.yaml", (UsageError, SettingsError))
    assert found["read"]
    assert found["UsageError"]
