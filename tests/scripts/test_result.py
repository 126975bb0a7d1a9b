"""By which rule a record says that the tested model was chosen."""

import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dassl.config import get_cfg_default
from dassl.utils import UsageError
from scripts.lib.result import write_result

TESTED = {"split": "test", "accuracy": 50.0, "error_rate": 50.0, "macro_f1": 50.0}
TRAINER = SimpleNamespace(
    last_test=TESTED,
    evaluator=SimpleNamespace(total=2, correct=1),
    dm=SimpleNamespace(dataset=None),
    device="cpu",
    get_model_names=lambda: ["prompt_learner"],
)


def evaluate(folder: Path, epoch: int | None, record: object = None) -> tuple[str, int | None]:
    """Selection and epoch of a test, with MAX_EPOCH 50, of a model whose training left a record."""
    (folder / "model").mkdir()
    if record is not None:
        (folder / "model" / "result.json").write_text(json.dumps(record))
    cfg = get_cfg_default()
    cfg.TRAINER.NAME = "CoOp"
    cfg.OPTIM.MAX_EPOCH = 50
    cfg.DATASET.SUBSAMPLE_CLASSES = "new"
    cfg.OUTPUT_DIR = str(folder)
    args = Namespace(
        eval_only=True, model_dir=str(folder / "model"), load_epoch=epoch, config_file="a.yaml"
    )
    write_result(TRAINER, cfg, args)
    written = json.loads((folder / "result.json").read_text())
    return written["selection"], written["epoch"]


@pytest.mark.parametrize(
    ("epoch", "record", "expected"),
    [
        (None, None, ("best", None)),
        (None, {"selection": "best_val", "epoch": 7}, ("best_val", 7)),
        (None, {"selection": "best_test", "epoch": 7}, ("best_test", 7)),
        (None, {"selection": "last_step", "epoch": 200}, ("best", None)),
        (50, None, ("last_step", 50)),
        (20, None, ("epoch 20", 20)),
        (200, {"selection": "last_step", "epoch": 200}, ("last_step", 200)),
        (50, {"selection": "last_step", "epoch": 200}, ("epoch 50", 50)),
        (7, {"selection": "best_val", "epoch": 7}, ("best_val", 7)),
        (50, {"selection": "best_val", "epoch": 7}, ("last_step", 50)),
    ],
)
def test_the_record_of_the_training_says_how_its_model_was_chosen(
    tmp_path: Path, epoch: int | None, record: object, expected: tuple[str, int | None]
) -> None:
    assert evaluate(tmp_path, epoch, record) == expected


def test_a_record_of_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model/result\.json holds 3"):
        evaluate(tmp_path, None, 3)
