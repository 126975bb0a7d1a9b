"""Settings of a run are recorded, and resuming with other settings raises."""

from pathlib import Path

import pytest
from yacs.config import CfgNode

import trainers
from dassl.config import get_cfg_default
from dassl.engine.check_resume import check_continuation
from dassl.engine.run_records import training_settings
from dassl.utils import UsageError, write_json


class Distiller:
    """A trainer that has only config nodes and model names."""

    config_nodes = ("PROMPTKD",)

    def get_model_names(self) -> list[str]:
        return ["VLPromptLearner"]


@pytest.fixture
def cfg(tmp_path: Path) -> CfgNode:
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    cfg.OUTPUT_DIR = str(tmp_path)
    (tmp_path / "VLPromptLearner").mkdir()
    (tmp_path / "VLPromptLearner" / "model.pth.tar-1").touch()
    check_continuation(Distiller(), cfg)  # nothing is recorded yet
    write_json({"settings": training_settings(Distiller(), cfg)}, tmp_path / "checkpoint.json")
    return cfg


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DATASET.DISTILL_ON", "all"),
        ("TRAINER.MODAL", "cross"),
        ("TRAINER.PROMPTKD.KD_WEIGHT", 9.0),
    ],
)
def test_changed_setting_raises(cfg: CfgNode, key: str, value: object) -> None:
    check_continuation(Distiller(), cfg)  # the same settings
    cfg.merge_from_list([key, value])
    with pytest.raises(UsageError, match=f"{key} was .*, now is {value}"):
        check_continuation(Distiller(), cfg)


def test_unused_settings_and_more_epochs_are_allowed(cfg: CfgNode) -> None:
    cfg.merge_from_list(["OPTIM.MAX_EPOCH", 99, "TRAINER.COOP.N_CTX", 3])
    check_continuation(Distiller(), cfg)
    assert "OPTIM.LR" in training_settings(Distiller(), cfg)
