"""Refuse to resume a run with settings other than those in its checkpoint.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ..config.flat import differences
from ..utils.errors import UsageError
from .run_records import read_record, training_settings

LONGER = "OPTIM.MAX_EPOCH"  # a training may be continued for more epochs


def check_continuation(trainer: Any, cfg: CfgNode) -> None:
    """Raise UsageError if the checkpoints to resume from were trained with other settings."""
    folder = Path(cfg.RESUME or cfg.OUTPUT_DIR)
    changed = _changed_since(folder, training_settings(trainer, cfg))
    if changed and any((folder / n / "checkpoint").is_file() for n in trainer.get_model_names()):
        raise UsageError(
            f"{folder} contains checkpoints of other settings ({'; '.join(changed)}): use the "
            "same settings, choose another --output-dir, or delete the folder"
        )


def warn_of_differences(trainer: Any, cfg: CfgNode, model_dir: str) -> None:
    """Warn where a test reads the trainer's sections with other values than the training did."""
    for line in _changed_since(Path(model_dir), training_settings(trainer, cfg)):
        if line.startswith("TRAINER.") and not line.startswith("TRAINER.NAME"):
            print(f"warning: the model in {model_dir} was trained with other settings: {line}")


def _changed_since(folder: Path, values: Mapping[str, Any]) -> list[str]:
    """Return the differences from the settings recorded in ``folder``, in the keys of both."""
    old = read_record(folder).get("settings", {})
    shared = old.keys() & values.keys() - {LONGER}
    return differences({k: old[k] for k in shared}, {k: values[k] for k in shared})
