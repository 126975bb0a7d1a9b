"""OUTPUT_DIR/result.json: one test as a record that scripts/results.py can put into a table."""

from __future__ import annotations

import argparse
import resource
import shlex
import sys
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.engine.run_records import own_sections, read_record
from dassl.engine.selection import selection_rule
from dassl.utils import write_json
from dassl.utils.checkpoint import BEST
from dassl.utils.env import library_versions

RESULT = "result.json"
SECTIONS = ("OPTIM", "INPUT")  # besides the trainer's own: what decides a result


def write_result(trainer: Any, cfg: CfgNode, args: argparse.Namespace) -> None:
    """Write what the newest test of ``trainer`` found, and the setting it belongs to."""
    tested = trainer.last_test
    model = read_record(args.model_dir) if args.eval_only and args.model_dir else {}
    selection, epoch = _selection(trainer, cfg, args, model)
    loader = trainer.val_loader if tested["split"] == "val" else trainer.test_loader
    group = getattr(trainer.dm.dataset, "class_groups", {}).get(tested["split"])
    write_json(
        {
            "trainer": cfg.TRAINER.NAME,
            "dataset": cfg.DATASET.NAME,
            "config": Path(args.config_file).stem,
            "seed": cfg.SEED,
            "shots": cfg.DATASET.NUM_SHOTS,
            "classes": group.name if group else cfg.DATASET.SUBSAMPLE_CLASSES,
            "source": _trained_on(model) if args.eval_only else cfg.DATASET.NAME,
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
            "features": "stored" if getattr(loader, "used", False) else "computed",
            "versions": library_versions(),
            "device": str(trainer.device),
            "resources": resources(),
            # What it ran in: PREC fp16 runs in fp32 on a CPU. None: the trainer does not tell.
            "precision": getattr(trainer, "precision", None),
            "command": shlex.join(["python", *sys.argv]),
        },
        Path(cfg.OUTPUT_DIR) / RESULT,
    )


def _trained_on(model: dict[str, Any]) -> str | None:
    """The dataset of the training that left the record ``model``."""
    return model.get("settings", {}).get("DATASET.NAME")


def resources() -> dict[str, int | None]:
    """The peak memory of this process in bytes, on the host and on the GPU (None without one)."""
    import torch  # here: the scripts that only read results do not need it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "host_bytes": peak if sys.platform == "darwin" else peak * 1024,  # Linux counts in KiB
        "cuda_bytes": torch.cuda.max_memory_reserved() if on_gpu else None,
    }


def _selection(
    trainer: Any, cfg: CfgNode, args: argparse.Namespace, model: dict[str, Any]
) -> tuple[str, int | None]:
    """By which rule the tested checkpoint was chosen, and its epoch.

    checkpoint.json of a training tells what its model was chosen on. A best model without a record
    is "best", by whatever rule: the original selects on test images where a dataset has no others.
    Without a record the last epoch is MAX_EPOCH of this test's config.
    """
    if not trainer.get_model_names():
        return "zero-shot", None
    if args.eval_only:
        if not args.model_dir:
            return "untrained", None
        return _selection_of_loaded(args.load_epoch, cfg.OPTIM.MAX_EPOCH, model)
    rule = selection_rule(trainer)
    return rule, trainer.max_epoch if rule == "last_step" else trainer.best_epoch


def _selection_of_loaded(
    epoch: int | None, max_epoch: int, model: dict[str, Any]
) -> tuple[str, int | None]:
    """`_selection` of a model from a folder: its ``epoch``, or its best one where that is None."""
    rule = str(model.get("selection"))
    best = model.get("checkpoints", {}).get(BEST, {}).get("epoch")
    if epoch is None:
        return rule if rule.startswith("best_") else "best", best
    if rule.startswith("best_") and epoch == best:
        return rule, epoch
    last = model.get("settings", {}).get("OPTIM.MAX_EPOCH", max_epoch)
    return "last_step" if epoch == last else f"epoch {epoch}", epoch


def _settings(trainer: Any, cfg: CfgNode) -> dict[str, Any]:
    """The sections of the config that this trainer reads."""
    sections = own_sections(trainer, cfg)
    sections |= {name: cfg[name] for name in SECTIONS}
    if cfg.DATASET.get("DISTILL_ON"):
        sections["DATASET"] = {"DISTILL_ON": cfg.DATASET.DISTILL_ON}
        sections["TRAINER"] = {"MODAL": cfg.TRAINER.MODAL}
    sections["DATALOADER.TRAIN_X"] = cfg.DATALOADER.TRAIN_X
    if cfg.DATALOADER.VIEWS:
        sections["DATALOADER"] = {"VIEWS": cfg.DATALOADER.VIEWS}
    return sections
