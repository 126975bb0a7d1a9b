"""result.json: the newest test in an output folder."""

import argparse
import resource
import shlex
import sys
from pathlib import Path
from typing import Any, cast

from yacs.config import CfgNode

from ...utils.env import git_commit, library_versions
from ...utils.schema import read_checked
from ...utils.tools import PathLike, write_json
from ..selection import selection_rule
from .checkpoints import data_of, describe, read_record, trainer_sections
from .schemas import CheckpointRecord, ResultRecord

RESULT = "result.json"
EARLIER = "result-earlier.json"  # the previous result while a new run has not written its own
REMEDY = "run the test again, or restore the file"


def write_result(trainer: Any, cfg: CfgNode, args: argparse.Namespace) -> None:
    """Write OUTPUT_DIR/result.json: the newest test of ``trainer`` and the settings behind it.

    Args:
        args: flags of train.py: eval_only, model_dir, load_epoch, config_file.
    """
    tested = trainer.last_test
    tests_model = args.eval_only and args.model_dir
    model = read_record(args.model_dir) if tests_model else cast(CheckpointRecord, {})
    selection, epoch = _selection(trainer, cfg, args, model)
    loader = trainer.val_loader if tested["split"] == "val" else trainer.test_loader
    group = getattr(trainer.dm.dataset, "class_groups", {}).get(tested["split"])
    data = data_of(trainer)
    name = data["name"] if data else cfg.DATASET.NAME
    trained = model.get("data")
    trained_on = trained["name"] if trained else model.get("settings", {}).get("DATASET.NAME")
    write_json(
        {
            "trainer": cfg.TRAINER.NAME,
            "dataset": name,  # of an own folder, its folder's name
            "config": Path(args.config_file).stem,
            "seed": cfg.SEED,
            "shots": cfg.DATASET.NUM_SHOTS,
            "classes": group.name if group else cfg.DATASET.SUBSAMPLE_CLASSES,
            "source": trained_on if args.eval_only else name,
            "backbone": cfg.MODEL.BACKBONE.NAME,
            "selection": selection,
            "epoch": epoch,
            # Classes that are tested in groups are all tested on images of the test split.
            "split": "test" if group else tested["split"],
            "accuracy": tested["accuracy"],
            "error": tested["error_rate"],
            "macro_f1": tested["macro_f1"],
            "total": trainer.evaluator.total,
            "correct": trainer.evaluator.correct,
            "settings": _result_settings(trainer, cfg),
            "features": "stored" if getattr(loader, "used", False) else "computed",
            "data": data,
            "model_data": trained,  # of the tested model's training
            "clip": describe(trainer).get("clip", {}),
            "warnings": _warnings(trainer),
            "versions": library_versions(),
            "commit": git_commit(),
            "device": str(trainer.device),
            "resources": _peak_memory(),
            # The one used: PREC fp16 runs in fp32 on a CPU. None: the trainer does not report it.
            "precision": getattr(trainer, "precision", None),
            "command": shlex.join(["python", *sys.argv]),
        },
        Path(cfg.OUTPUT_DIR) / RESULT,
    )
    (Path(cfg.OUTPUT_DIR) / EARLIER).unlink(missing_ok=True)


def read_result(folder: PathLike) -> ResultRecord:
    """Return the content of ``folder``/result.json; {} if there is none."""
    path = Path(folder) / RESULT
    if not path.exists():
        return cast(ResultRecord, {})
    return read_checked(path, ResultRecord, REMEDY)


def _warnings(trainer: Any) -> list[str]:
    """Return the warnings of the dataset and of the trainer, if they keep any."""
    dataset = getattr(trainer.dm, "dataset", None)
    return [*getattr(dataset, "warnings", ()), *getattr(trainer, "warnings", ())]


def _peak_memory() -> dict[str, int | None]:
    """Return the peak memory of this process in bytes, on the host and on the GPU (None: CPU)."""
    import torch  # slow to import, and readers of records do not need it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "host_bytes": peak if sys.platform == "darwin" else peak * 1024,  # Linux counts in KiB
        "cuda_bytes": torch.cuda.max_memory_reserved() if on_gpu else None,
    }


def _selection(
    trainer: Any, cfg: CfgNode, args: argparse.Namespace, model: CheckpointRecord
) -> tuple[str, int | None]:
    """Return the rule that chose the tested checkpoint, and its epoch.

    For a loaded model the rule is in the checkpoint.json of its training. A best model without
    this record is "best": the original selects on test images where a dataset has no others.
    """
    if not trainer.get_model_names():
        return "zero-shot", None
    if not args.eval_only:
        rule = selection_rule(trainer)
        return rule, trainer.max_epoch if rule == "last_step" else trainer.best_epoch
    if not args.model_dir:
        return "untrained", None
    rule = str(model.get("selection"))
    entry = model.get("checkpoints", {}).get("model-best.pth.tar")
    best = entry["epoch"] if entry else None
    epoch = args.load_epoch
    if epoch is None:
        return rule if rule.startswith("best_") else "best", best
    if rule.startswith("best_") and epoch == best:
        return rule, epoch
    last = model.get("settings", {}).get("OPTIM.MAX_EPOCH", cfg.OPTIM.MAX_EPOCH)
    return "last_step" if epoch == last else f"epoch {epoch}", epoch


def _result_settings(trainer: Any, cfg: CfgNode) -> dict[str, Any]:
    """Return the sections of the config that decide a result."""
    sections = trainer_sections(trainer, cfg)
    sections |= {name: cfg[name] for name in ("OPTIM", "INPUT")}
    if cfg.DATASET.get("DISTILL_ON"):
        sections["DATASET"] = {"DISTILL_ON": cfg.DATASET.DISTILL_ON}
        sections["TRAINER"] = {"MODAL": cfg.TRAINER.MODAL}
    sections["DATALOADER.TRAIN_X"] = cfg.DATALOADER.TRAIN_X
    if cfg.DATALOADER.VIEWS:
        sections["DATALOADER"] = {"VIEWS": cfg.DATALOADER.VIEWS}
    return sections
