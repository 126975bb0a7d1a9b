"""Checks of the settings that every trainer reads."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from yacs.config import CfgNode

from ..utils.errors import UsageError, nearest

CHOICES = {"TEST.SPLIT": ("test", "val"), "TEST.FINAL_MODEL": ("last_step", "best_val")}


def check_settings(cfg: CfgNode) -> None:
    """Raise a UsageError if a setting of the engine is unknown or out of range."""
    for key, choices in CHOICES.items():
        value = _get(cfg, key)
        if value not in choices:
            raise UsageError(f"{key} {value!r} is unknown: {nearest(value, choices)}")
    for key, (description, is_allowed) in RANGES.items():
        value = _get(cfg, key)
        if not is_allowed(value):
            raise UsageError(f"{key} must be {description}, got {value!r}")
    kernel = cfg.INPUT.GB_K
    if "gaussian_blur" in cfg.INPUT.TRANSFORMS and not (kernel > 0 and kernel % 2):
        raise UsageError(f"INPUT.GB_K must be an odd number of pixels, got {kernel!r}")


def _get(cfg: CfgNode, key: str) -> Any:
    section, _, leaf = key.rpartition(".")
    return (_get(cfg, section) if section else cfg)[leaf]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _are_numbers(values: Sequence[Any], count: int) -> bool:
    return len(values) == count and all(map(_is_number, values))


def _is_size(value: Sequence[Any]) -> bool:
    return _are_numbers(value, 2) and all(type(edge) is int and edge > 0 for edge in value)


def _is_scale(value: Sequence[Any]) -> bool:
    return _are_numbers(value, 2) and 0 < value[0] <= value[1] <= 1


Range = tuple[str, Callable[[Any], bool]]
_AT_LEAST_0: Range = ("at least 0", lambda v: _is_number(v) and v >= 0)
_AT_LEAST_1: Range = ("at least 1", lambda v: _is_number(v) and v >= 1)
_BELOW_1: Range = ("at least 0 and less than 1", lambda v: _is_number(v) and 0 <= v < 1)

RANGES: dict[str, Range] = {
    "OPTIM.MAX_EPOCH": _AT_LEAST_1,
    "OPTIM.LR": _AT_LEAST_0,
    "OPTIM.WEIGHT_DECAY": _AT_LEAST_0,
    "OPTIM.MOMENTUM": _AT_LEAST_0,
    "OPTIM.ADAM_BETA1": _BELOW_1,
    "OPTIM.ADAM_BETA2": _BELOW_1,
    "TRAIN.PRINT_FREQ": _AT_LEAST_1,
    "DATALOADER.NUM_WORKERS": _AT_LEAST_0,
    "DATALOADER.VIEWS": ("an integer of at least 0", lambda v: type(v) is int and v >= 0),
    "DATALOADER.TRAIN_X.BATCH_SIZE": _AT_LEAST_1,
    "DATALOADER.TRAIN_U.BATCH_SIZE": _AT_LEAST_1,
    "DATALOADER.TEST.BATCH_SIZE": _AT_LEAST_1,
    "INPUT.SIZE": ("two positive integers (height, width)", _is_size),
    "INPUT.RRCROP_SCALE": ("two numbers a, b with 0 < a <= b <= 1", _is_scale),
    "INPUT.PIXEL_MEAN": ("three numbers", lambda v: _are_numbers(v, 3)),
    "INPUT.PIXEL_STD": ("three positive numbers", lambda v: _are_numbers(v, 3) and min(v) > 0),
}
