"""OUTPUT_DIR/settings.json: what decides a training, so that two are not mixed in one folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.utils import UsageError, read_json, write_json

SETTINGS = "settings.json"
KEYS = (
    "SEED",
    "TRAINER.NAME",
    "MODEL.BACKBONE.NAME",
    "DATASET.NAME",
    "DATASET.NUM_SHOTS",
    "DATASET.SUBSAMPLE_CLASSES",
)
LONGER = "OPTIM.MAX_EPOCH"  # a run may go on for more epochs


def deciding(trainer: Any, cfg: CfgNode) -> dict[str, Any]:
    """Flat KEY -> value: data, backbone, the trainer's own sections, optimisation."""
    nodes = getattr(trainer, "config_nodes", (cfg.TRAINER.NAME.upper(),))
    sections = [f"TRAINER.{name}" for name in nodes if name in cfg.TRAINER] + ["OPTIM"]
    values = {key: _get(cfg, key) for key in KEYS}
    for section in sections:
        values.update(_flatten(_get(cfg, section), f"{section}."))
    del values[LONGER]
    return values


def check_continuation(trainer: Any, cfg: CfgNode) -> None:
    """Refuse to go on from checkpoints of other settings, and record those of this run.

    Raises:
        UsageError: the folder that would be resumed was trained otherwise; it names the difference.
    """
    folder = Path(cfg.RESUME or cfg.OUTPUT_DIR)
    changed = _differences(folder, deciding(trainer, cfg))
    if changed and any((folder / name / "checkpoint").is_file() for name in _names(trainer)):
        raise UsageError(
            f"{folder} holds checkpoints of other settings ({'; '.join(changed)}): use them, "
            "choose another --output-dir, or delete the folder"
        )
    write_json(deciding(trainer, cfg), Path(cfg.OUTPUT_DIR) / SETTINGS)


def warn_of_differences(trainer: Any, cfg: CfgNode, model_dir: str) -> None:
    """Say it where a test reads the trainer's sections otherwise than the training did."""
    for line in _differences(Path(model_dir), deciding(trainer, cfg)):
        if line.startswith(("TRAINER.", "MODEL.")) and not line.startswith("TRAINER.NAME"):
            print(f"warning: the model in {model_dir} was trained with other settings: {line}")


def _names(trainer: Any) -> list[str]:
    return list(trainer.get_model_names())


def _differences(folder: Path, values: Mapping[str, Any]) -> list[str]:
    record = folder / SETTINGS
    if not record.is_file():
        return []
    old = read_json(record)
    return [
        f"{key} was {old[key]}, now is {value}"
        for key, value in values.items()
        if key in old and old[key] != value
    ]


def _get(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def _flatten(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            # As it will be read back from the file.
            yield prefix + key, list(value) if isinstance(value, tuple) else value
