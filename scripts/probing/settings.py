"""The settings of a run that differ from the defaults."""

from collections.abc import Mapping
from typing import Any

from dassl.config import get_cfg_default
from dassl.config.flat import flatten
from dassl.engine.run_records.runs import HARMLESS_KEYS, PATH_KEYS
from trainers.settings import extend_cfg

__all__ = ["changed_settings", "plain"]

# Settings that are named elsewhere, or that change no result.
ELSEWHERE = (
    *HARMLESS_KEYS,
    *PATH_KEYS,
    "DATASET.NAME",
    "DATASET.NUM_SHOTS",
    "DATASET.SUBSAMPLE_CLASSES",
    "MODEL.BACKBONE.NAME",
    "SEED",
    "TRAINER.NAME",
)


def changed_settings(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from the defaults, flat, without those of ELSEWHERE."""
    defaults = get_cfg_default()
    extend_cfg(defaults)
    known = dict(flatten(defaults))
    return {
        key: value
        for key, value in flatten(cfg)
        if key not in ELSEWHERE and plain(value) != plain(known.get(key))
    }


def plain(value: Any) -> Any:
    """Return tuples as lists, as YAML has them."""
    return list(value) if isinstance(value, tuple) else value
