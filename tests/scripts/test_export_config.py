"""Exported configs are complete and equal to this project's configs."""

from pathlib import Path

import pytest

import trainers
from dassl.config import get_cfg_default, merge_file
from dassl.config.flat import flatten
from scripts.export_config import OURS, export, main

FOLDER = Path("configs/trainers")
FILES = sorted(path for path in FOLDER.glob("*/*.yaml"))


def merged(path, by_yacs):
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    if by_yacs:
        cfg.merge_from_file(str(path))  # as in the original train.py
    else:
        merge_file(cfg, path)
    return cfg


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_exported_config_equals_the_merged_config(file, tmp_path):
    text, left_out = export(file)
    assert "_BASE_" not in text
    (tmp_path / "out.yaml").write_text(text)
    exported = dict(flatten(merged(tmp_path / "out.yaml", by_yacs=True)))
    for key, value in flatten(merged(file, by_yacs=False)):
        if key not in left_out:
            assert exported[key] == value, key


def test_settings_added_by_this_project_are_left_out_and_listed(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text("TEST:\n  SELECT_ON_TEST: True\n  SPLIT: val\n")
    assert main([str(tmp_path / "a.yaml")]) == 0
    out, error = capsys.readouterr()
    assert out == "TEST:\n  SPLIT: val\n"
    assert error.startswith("left out: TEST.SELECT_ON_TEST")
    assert "TEST.SELECT_ON_TEST" in OURS


def test_missing_file_is_reported_in_one_sentence(capsys):
    assert main(["configs/trainers/CoOp/vit_b61.yaml"]) == 2
    assert "did you mean 'vit_b16'" in capsys.readouterr().err
