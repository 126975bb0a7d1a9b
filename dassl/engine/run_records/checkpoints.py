"""checkpoint.json: what the checkpoints in an output folder are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from yacs.config import CfgNode

from ...data.fingerprint import describe_data
from ...utils.env import git_commit, library_versions, now
from ...utils.file_set import FileSet
from ...utils.schema import read_checked, read_json
from ...utils.tools import PathLike, write_json
from ..selection import selection_rule
from .schemas import CheckpointRecord

RECORD = "checkpoint.json"
REMEDY = "restore it, or delete it: checkpoints without a record can still be tested"
# What decides a training besides the trainer's own sections and OPTIM.
TRAINING_KEYS = (
    "SEED",
    "TRAINER.NAME",
    "MODEL.BACKBONE.NAME",
    "DATASET.NAME",
    "DATASET.NUM_SHOTS",
    "DATASET.SUBSAMPLE_CLASSES",
    "DATASET.DISTILL_ON",
    "DATALOADER.VIEWS",
    "TRAINER.MODAL",
)


def write_record(
    trainer: Any, files: FileSet, saved: Mapping[str, int], val_result: float | None
) -> None:
    """Add checkpoint.json to a set of checkpoints ``saved`` (name -> finished epochs).

    Entries of earlier checkpoints are kept while all models still have the files.
    """
    cfg, folder = trainer.cfg, files.folder
    names = trainer.get_model_names()
    earlier = read_record(folder).get("checkpoints", {})
    checkpoints: dict[str, Any] = {
        file: entry
        for file, entry in earlier.items()
        if all((folder / name / file).is_file() for name in names)
    }
    entry = {"val_result": val_result, "saved": now()}
    checkpoints |= {file: {"epoch": epoch, **entry} for file, epoch in saved.items()}
    classes = trainer.lab2cname
    content = {
        "method": cfg.TRAINER.NAME,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        **trainer.describe(),
        "classes": [classes[label] for label in sorted(classes)],
        "data": data_of(trainer),
        "selection": selection_rule(trainer),
        "checkpoints": checkpoints,
        "tensors": {name: _shapes(trainer._models[name]) for name in names},
        "settings": training_settings(trainer, cfg),
        "versions": library_versions(),
        "commit": git_commit(),
    }
    files.write(folder / RECORD, json.dumps(content, indent=4).encode())


def repair_record(trainer: Any, directory: PathLike) -> None:
    """Correct the epoch and result of the best model in checkpoint.json from the trainer.

    Versions before the record was saved with the checkpoints could be killed between the two.
    """
    path = Path(directory) / RECORD
    name = "model-best.pth.tar"
    if not path.is_file() or not trainer.best_epoch:
        return
    entry = read_record(directory).get("checkpoints", {}).get(name)
    if entry is None or entry["epoch"] == trainer.best_epoch:
        return
    print(
        f"{path} names epoch {entry['epoch']} as the best one, but the checkpoint is of epoch "
        f"{trainer.best_epoch}: the record is corrected"
    )
    content = read_json(path)
    content["checkpoints"][name] |= {
        "epoch": trainer.best_epoch,
        "val_result": trainer.best_result,
    }
    write_json(content, path)


def read_record(folder: PathLike) -> CheckpointRecord:
    """Return the content of ``folder``/checkpoint.json; {} if there is none."""
    path = Path(folder) / RECORD
    if not path.exists():
        return cast(CheckpointRecord, {})
    return read_checked(path, CheckpointRecord, REMEDY)


def facts_of(trainer: Any) -> dict[str, Any]:
    """Return the facts about data and CLIP that decide a run's numbers, for run.json."""
    return {"data": data_of(trainer), "clip": describe(trainer).get("clip", {})}


def describe(trainer: Any) -> dict[str, Any]:
    """Return what a trainer's `describe` says about its model; {} for a trainer without it."""
    return trainer.describe() if hasattr(trainer, "describe") else {}


def data_of(trainer: Any) -> dict[str, Any] | None:
    """Return the description of a trainer's data; None if it has no dataset of labeled images."""
    dataset = getattr(getattr(trainer, "dm", None), "dataset", None)
    images = getattr(dataset, "train_x", None) or [None]
    if not hasattr(images[0], "impath") or not hasattr(images[0], "label"):
        return None
    return describe_data(dataset, trainer.cfg.DATASET.ROOT)


def training_settings(trainer: Any, cfg: CfgNode) -> dict[str, Any]:
    """Return flat KEY -> value of what decides a training: data, backbone, method, optimization."""
    values = {key: value for key in TRAINING_KEYS if (value := _get(cfg, key)) is not None}
    sections = trainer_sections(trainer, cfg) | {"OPTIM": cfg.OPTIM, "INPUT": cfg.INPUT}
    sections["DATALOADER.TRAIN_X"] = cfg.DATALOADER.TRAIN_X
    for section, tree in sections.items():
        values |= {f"{section}.{key}": value for key, value in tree.items()}
    # As they will be read back from the file.
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def trainer_sections(trainer: Any, cfg: CfgNode) -> dict[str, CfgNode]:
    """Return the sections of cfg.TRAINER that this trainer reads, by their keys."""
    nodes = getattr(trainer, "config_nodes", (cfg.TRAINER.NAME.upper(),))
    return {f"TRAINER.{name}": cfg.TRAINER[name] for name in nodes if name in cfg.TRAINER}


def _shapes(module: Any) -> dict[str, str]:
    """Return {"ctx": "4 x 512"} for every tensor of a module's state_dict."""
    tensors = module.state_dict().items()
    return {key: " x ".join(map(str, value.shape)) or "number" for key, value in tensors}


def _get(cfg: CfgNode, key: str) -> Any:
    section, _, leaf = key.rpartition(".")
    return (_get(cfg, section) if section else cfg).get(leaf)
