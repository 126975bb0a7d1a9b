"""checkpoint.json beside a run's checkpoints: what they are, for readers and later commands."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ..utils.env import library_versions
from ..utils.errors import UsageError
from ..utils.tools import PathLike, read_json, write_json
from .selection import selection_rule

RECORD = "checkpoint.json"
# What decides a training besides the trainer's own sections and OPTIM.
KEYS = (
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
    trainer: Any, directory: PathLike, files: Mapping[str, int], val_result: float | None
) -> None:
    """Write OUTPUT_DIR/checkpoint.json after the checkpoints ``files`` (name -> finished epochs).

    Checkpoints that were recorded before stay, while all models still have them.
    """
    cfg, folder = trainer.cfg, Path(directory)
    names = trainer.get_model_names()
    earlier = read_record(folder).get("checkpoints", {})
    checkpoints = {
        file: entry
        for file, entry in earlier.items()
        if all((folder / name / file).is_file() for name in names)
    }
    saved = datetime.now().astimezone().isoformat(timespec="seconds")
    entry = {"val_result": val_result, "saved": saved}
    checkpoints |= {file: {"epoch": epoch, **entry} for file, epoch in files.items()}
    classes = trainer.lab2cname
    content = {
        "method": cfg.TRAINER.NAME,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        **trainer.describe(),
        "classes": [classes[label] for label in sorted(classes)],
        "selection": selection_rule(trainer),
        "checkpoints": checkpoints,
        "tensors": {name: _shapes(trainer._models[name]) for name in names},
        "settings": deciding(trainer, cfg),
        "versions": library_versions(),
    }
    write_json(content, folder / RECORD)


def read_record(folder: PathLike) -> dict[str, Any]:
    """The content of ``folder``/checkpoint.json; empty where there is none."""
    path = Path(folder) / RECORD
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds {content!r:.40}: was it written by this train.py?")
    return content


def own_sections(trainer: Any, cfg: CfgNode) -> dict[str, CfgNode]:
    """The sections of cfg.TRAINER that this trainer reads, by their keys."""
    nodes = getattr(trainer, "config_nodes", (cfg.TRAINER.NAME.upper(),))
    return {f"TRAINER.{name}": cfg.TRAINER[name] for name in nodes if name in cfg.TRAINER}


def deciding(trainer: Any, cfg: CfgNode) -> dict[str, Any]:
    """Flat KEY -> value of what decides a training: data, backbone, own sections, optimization."""
    values = {key: value for key in KEYS if (value := _get(cfg, key)) is not None}
    for section, tree in {**own_sections(trainer, cfg), "OPTIM": cfg.OPTIM}.items():
        values |= {f"{section}.{key}": value for key, value in tree.items()}
    # As they will be read back from the file.
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _shapes(module: Any) -> dict[str, str]:
    """{"ctx": "4 x 512"} for every tensor of a checkpoint's state_dict."""
    tensors = module.state_dict().items()
    return {key: " x ".join(map(str, value.shape)) or "number" for key, value in tensors}


def _get(cfg: CfgNode, key: str) -> Any:
    section, _, leaf = key.rpartition(".")
    return (_get(cfg, section) if section else cfg).get(leaf)
