"""OUTPUT_DIR/settings.json: what decides a training, so that two are not mixed in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.utils import UsageError, read_json, write_json
from scripts.lib.settings import differences, flatten

SETTINGS = "settings.json"
KEYS = (
    "SEED",
    "TRAINER.NAME",
    "MODEL.BACKBONE.NAME",
    "DATASET.NAME",
    "DATASET.NUM_SHOTS",
    "DATASET.SUBSAMPLE_CLASSES",
    "DATASET.DISTILL_ON",
    "TRAINER.MODAL",
)
LONGER = "OPTIM.MAX_EPOCH"  # a run may go on for more epochs


def own_sections(trainer: Any, cfg: CfgNode) -> dict[str, CfgNode]:
    """The sections of cfg.TRAINER that this trainer reads, by their keys."""
    nodes = getattr(trainer, "config_nodes", (cfg.TRAINER.NAME.upper(),))
    return {f"TRAINER.{name}": cfg.TRAINER[name] for name in nodes if name in cfg.TRAINER}


def deciding(trainer: Any, cfg: CfgNode) -> dict[str, Any]:
    """Flat KEY -> value: data, backbone, the trainer's own sections, optimisation."""
    values = {key: _get(cfg, key) for key in KEYS}
    for section, tree in {**own_sections(trainer, cfg), "OPTIM": cfg.OPTIM}.items():
        values.update(flatten(tree, f"{section}."))
    del values[LONGER]
    # As they will be read back from the file.
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def check_continuation(trainer: Any, cfg: CfgNode) -> None:
    """Refuse to go on from checkpoints of other settings, and record those of this run.

    Raises:
        UsageError: the folder that would be resumed was trained otherwise; it names the difference.
    """
    folder, values = Path(cfg.RESUME or cfg.OUTPUT_DIR), deciding(trainer, cfg)
    changed = _changed_since(folder, values)
    if changed and any((folder / n / "checkpoint").is_file() for n in trainer.get_model_names()):
        raise UsageError(
            f"{folder} holds checkpoints of other settings ({'; '.join(changed)}): use them, "
            "choose another --output-dir, or delete the folder"
        )
    write_json(values, Path(cfg.OUTPUT_DIR) / SETTINGS)


def warn_of_differences(trainer: Any, cfg: CfgNode, model_dir: str) -> None:
    """Say it where a test reads the trainer's sections otherwise than the training did."""
    for line in _changed_since(Path(model_dir), deciding(trainer, cfg)):
        if line.startswith(("TRAINER.", "MODEL.")) and not line.startswith("TRAINER.NAME"):
            print(f"warning: the model in {model_dir} was trained with other settings: {line}")


def _changed_since(folder: Path, values: Mapping[str, Any]) -> list[str]:
    """How the settings recorded in ``folder`` differ, in the keys that both have."""
    record = folder / SETTINGS
    if not record.is_file():
        return []
    old = read_json(record)
    shared = old.keys() & values.keys()
    return differences({k: old[k] for k in shared}, {k: values[k] for k in shared})


def _get(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg
