"""By which rule a record says that the tested model was chosen."""

import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dassl.config import get_cfg_default
from dassl.utils import UsageError
from scripts.runner.result import write_result

TESTED = {"split": "test", "accuracy": 50.0, "error_rate": 50.0, "macro_f1": 50.0}
TRAINER = SimpleNamespace(
    last_test=TESTED,
    evaluator=SimpleNamespace(total=2, correct=1),
    dm=SimpleNamespace(dataset=None),
    device="cpu",
    test_loader=None,
    get_model_names=lambda: ["prompt_learner"],
)


def evaluate(folder: Path, epoch: int | None, record: object = None) -> tuple[str, int | None]:
    """Selection and epoch of a test, with MAX_EPOCH 50, of a model whose training left a record."""
    (folder / "model").mkdir()
    if record is not None:
        (folder / "model" / "checkpoint.json").write_text(json.dumps(record))
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


def training(selection: str, best: int | None = None) -> dict[str, object]:
    """What checkpoint.json says of a training of 200 epochs."""
    checkpoints = {"model-best.pth.tar": {"epoch": best}} if best else {}
    settings = {"OPTIM.MAX_EPOCH": 200}
    return {"selection": selection, "checkpoints": checkpoints, "settings": settings}


@pytest.mark.parametrize(
    ("epoch", "record", "expected"),
    [
        (None, None, ("best", None)),
        (None, training("best_val", best=7), ("best_val", 7)),
        (None, training("best_test", best=7), ("best_test", 7)),
        (None, training("last_step"), ("best", None)),
        (50, None, ("last_step", 50)),
        (20, None, ("epoch 20", 20)),
        (200, training("last_step"), ("last_step", 200)),
        (50, training("last_step"), ("epoch 50", 50)),
        (7, training("best_val", best=7), ("best_val", 7)),
        (50, training("best_val", best=7), ("epoch 50", 50)),
        (200, training("best_val", best=7), ("last_step", 200)),
    ],
)
def test_the_record_of_the_training_says_how_its_model_was_chosen(
    tmp_path: Path, epoch: int | None, record: object, expected: tuple[str, int | None]
) -> None:
    assert evaluate(tmp_path, epoch, record) == expected


def test_a_record_of_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model/checkpoint\.json holds 3"):
        evaluate(tmp_path, None, 3)
