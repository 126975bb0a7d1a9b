"""OUTPUT_DIR/result.json: one test as a record that scripts/results.py can put into a table."""

from __future__ import annotations

import argparse
import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.engine.selection import val_problem
from dassl.utils import UsageError, read_json, write_json
from scripts.lib.deciding import own_sections

RESULT = "result.json"
PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy")
SECTIONS = ("OPTIM", "INPUT")  # besides the trainer's own: what decides a result


def write_result(trainer: Any, cfg: CfgNode, args: argparse.Namespace) -> None:
    """Write what the newest test of ``trainer`` found, and the setting it belongs to."""
    tested = trainer.last_test
    model = _model_record(args)
    selection, epoch = _selection(trainer, cfg, args, model)
    group = getattr(trainer.dm.dataset, "class_groups", {}).get(tested["split"])
    write_json(
        {
            "trainer": cfg.TRAINER.NAME,
            "dataset": cfg.DATASET.NAME,
            "config": Path(args.config_file).stem,
            "seed": cfg.SEED,
            "shots": cfg.DATASET.NUM_SHOTS,
            "classes": group.name if group else cfg.DATASET.SUBSAMPLE_CLASSES,
            "source": model.get("dataset") if args.eval_only else cfg.DATASET.NAME,
            "backbone": cfg.MODEL.BACKBONE.NAME,
            "selection": selection,
            "epoch": epoch,
            # Where classes are tested in groups, all of their images are of the test split.
            "split": "test" if group else tested["split"],
            "accuracy": tested["accuracy"],
            "error": tested["error_rate"],
            "macro_f1": tested["macro_f1"],
            "total": trainer.evaluator.total,
            "correct": trainer.evaluator.correct,
            "settings": _settings(trainer, cfg),
            "versions": versions(),
            "device": str(trainer.device),
            "command": shlex.join(["python", *sys.argv]),
        },
        Path(cfg.OUTPUT_DIR) / RESULT,
    )


def versions() -> dict[str, str]:
    """Of Python and the libraries that can change a result."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def _model_record(args: argparse.Namespace) -> dict[str, Any]:
    """The result.json beside the model that --eval-only loads; empty where there is none."""
    record = Path(args.model_dir) / RESULT
    content = read_json(record) if args.model_dir and record.is_file() else {}
    if not isinstance(content, dict):
        raise UsageError(f"{record} holds {content!r:.40}: was it written by this train.py?")
    return content


def _selection(
    trainer: Any, cfg: CfgNode, args: argparse.Namespace, model: dict[str, Any]
) -> tuple[str, int | None]:
    """By which rule the tested checkpoint was chosen, and its epoch.

    The record of a model's training, where it left one, tells what the model was chosen on. A best
    model without a record is "best", by whatever rule: the original selects on test images where a
    data set has no others. Without a record the last epoch is MAX_EPOCH of this test's config.
    """
    if not trainer.get_model_names():
        return "zero-shot", None
    if args.eval_only:
        if not args.model_dir:
            return "untrained", None
        return _selection_of_loaded(args.load_epoch, cfg.OPTIM.MAX_EPOCH, model)
    if cfg.TEST.FINAL_MODEL == "best_val":
        on_test = val_problem(trainer.val_loader, trainer.dm)
        return "best_test" if on_test else "best_val", trainer.best_epoch
    return "last_step", trainer.max_epoch


def _selection_of_loaded(
    epoch: int | None, max_epoch: int, model: dict[str, Any]
) -> tuple[str, int | None]:
    """`_selection` of a model from a folder: its ``epoch``, or its best one where that is None."""
    rule = str(model.get("selection"))
    if epoch is None:
        return (rule, model.get("epoch")) if rule.startswith("best_") else ("best", None)
    if model.get("epoch") == epoch:
        return rule, epoch
    last = epoch == max_epoch and rule != "last_step"  # else the record names the last epoch
    return "last_step" if last else f"epoch {epoch}", epoch


def _settings(trainer: Any, cfg: CfgNode) -> dict[str, Any]:
    """The sections of the config that this trainer reads."""
    sections = own_sections(trainer, cfg)
    sections |= {name: cfg[name] for name in SECTIONS}
    if cfg.DATASET.get("DISTILL_ON"):
        sections["DATASET"] = {"DISTILL_ON": cfg.DATASET.DISTILL_ON}
        sections["TRAINER"] = {"MODAL": cfg.TRAINER.MODAL}
    sections["DATALOADER.TRAIN_X"] = cfg.DATALOADER.TRAIN_X
    return sections
