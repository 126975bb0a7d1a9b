"""Two trainings are not mixed in one folder: checkpoint.json tells the settings of its training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.config.flat import differences
from dassl.engine.run_records import deciding, read_record
from dassl.utils import UsageError

LONGER = "OPTIM.MAX_EPOCH"  # a run may go on for more epochs


def check_continuation(trainer: Any, cfg: CfgNode) -> None:
    """Refuse to go on from checkpoints of other settings.

    Raises:
        UsageError: the folder that would be resumed was trained otherwise; it names the difference.
    """
    folder = Path(cfg.RESUME or cfg.OUTPUT_DIR)
    changed = _changed_since(folder, deciding(trainer, cfg))
    if changed and any((folder / n / "checkpoint").is_file() for n in trainer.get_model_names()):
        raise UsageError(
            f"{folder} holds checkpoints of other settings ({'; '.join(changed)}): use them, "
            "choose another --output-dir, or delete the folder"
        )


def warn_of_differences(trainer: Any, cfg: CfgNode, model_dir: str) -> None:
    """Say it where a test reads the trainer's sections otherwise than the training did."""
    for line in _changed_since(Path(model_dir), deciding(trainer, cfg)):
        if line.startswith("TRAINER.") and not line.startswith("TRAINER.NAME"):
            print(f"warning: the model in {model_dir} was trained with other settings: {line}")


def _changed_since(folder: Path, values: Mapping[str, Any]) -> list[str]:
    """How the settings recorded in ``folder`` differ, in the keys that both have."""
    old = read_record(folder).get("settings", {})
    shared = old.keys() & values.keys() - {LONGER}
    return differences({k: old[k] for k in shared}, {k: values[k] for k in shared})
