"""Settings that every trainer reads: the choices and ranges that are allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from yacs.config import CfgNode

from ..utils.errors import UsageError, nearest

CHOICES = {"TEST.SPLIT": ("test", "val"), "TEST.FINAL_MODEL": ("last_step", "best_val")}


def check_settings(cfg: CfgNode) -> None:
    """Raise a UsageError where a setting that the engine reads is unknown or out of range."""
    for key, choices in CHOICES.items():
        value = _get(cfg, key)
        if value not in choices:
            raise UsageError(f"{key} {value!r} is unknown: {nearest(value, choices)}")
    for key, allowed, is_allowed in RANGES:
        value = _get(cfg, key)
        if not is_allowed(value):
            raise UsageError(f"{key} must be {allowed}, got {value!r}")
    if "gaussian_blur" in cfg.INPUT.TRANSFORMS and not _is_odd(cfg.INPUT.GB_K):
        raise UsageError(f"INPUT.GB_K must be an odd number of pixels, got {cfg.INPUT.GB_K!r}")


def _get(cfg: CfgNode, key: str) -> Any:
    section, _, leaf = key.rpartition(".")
    return (_get(cfg, section) if section else cfg)[leaf]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _are_numbers(values: Sequence[Any], count: int) -> bool:
    return len(values) == count and all(map(_is_number, values))


def _at_least(low: int) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and value >= low


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1


def _is_size(value: Sequence[Any]) -> bool:
    return _are_numbers(value, 2) and all(type(edge) is int and edge > 0 for edge in value)


def _is_scale(value: Sequence[Any]) -> bool:
    return _are_numbers(value, 2) and 0 < value[0] <= value[1] <= 1


def _is_odd(value: int) -> bool:
    return value > 0 and value % 2 == 1


# key, what is allowed, whether a value is
RANGES: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("OPTIM.MAX_EPOCH", "at least 1", _at_least(1)),
    ("OPTIM.LR", "at least 0", _at_least(0)),
    ("OPTIM.WEIGHT_DECAY", "at least 0", _at_least(0)),
    ("OPTIM.MOMENTUM", "at least 0", _at_least(0)),
    ("OPTIM.ADAM_BETA1", "at least 0 and less than 1", _is_share),
    ("OPTIM.ADAM_BETA2", "at least 0 and less than 1", _is_share),
    ("TRAIN.PRINT_FREQ", "at least 1", _at_least(1)),
    ("DATALOADER.NUM_WORKERS", "at least 0", _at_least(0)),
    ("DATALOADER.VIEWS", "a whole number, at least 0", _is_count),
    ("DATALOADER.TRAIN_X.BATCH_SIZE", "at least 1", _at_least(1)),
    ("DATALOADER.TRAIN_U.BATCH_SIZE", "at least 1", _at_least(1)),
    ("DATALOADER.TEST.BATCH_SIZE", "at least 1", _at_least(1)),
    ("INPUT.SIZE", "two positive whole numbers (height, width)", _is_size),
    ("INPUT.RRCROP_SCALE", "two numbers a, b with 0 < a <= b <= 1", _is_scale),
    ("INPUT.PIXEL_MEAN", "three numbers", lambda value: _are_numbers(value, 3)),
    (
        "INPUT.PIXEL_STD",
        "three positive numbers",
        lambda value: _are_numbers(value, 3) and min(value) > 0,
    ),
)
