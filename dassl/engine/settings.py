"""Checks of the settings that every trainer reads, before anything is loaded."""

from yacs.config import CfgNode

from ..config.table import check_rows
from ..utils.errors import UsageError


def check_settings(cfg: CfgNode) -> None:
    """Raise UsageError if a setting of Dassl is unknown, out of range or contradicts another."""
    check_rows(cfg)
    low, high = cfg.INPUT.RRCROP_SCALE
    if low > high:
        raise UsageError(
            f"INPUT.RRCROP_SCALE must be two numbers a, b with 0 < a <= b <= 1, got {(low, high)}"
        )
    kernel = cfg.INPUT.GB_K
    if "gaussian_blur" in cfg.INPUT.TRANSFORMS and not kernel % 2:
        raise UsageError(f"INPUT.GB_K must be an odd number of pixels, got {kernel}")
    optim = cfg.OPTIM
    if optim.WARMUP_EPOCH > optim.MAX_EPOCH:
        raise UsageError(
            f"OPTIM.WARMUP_EPOCH {optim.WARMUP_EPOCH} is more than OPTIM.MAX_EPOCH "
            f"{optim.MAX_EPOCH}: the warm-up would not end, set it to at most {optim.MAX_EPOCH}"
        )
    if optim.NAME == "sgd" and optim.SGD_NESTEROV and (optim.SGD_DAMPNING or not optim.MOMENTUM):
        raise UsageError(
            "OPTIM.SGD_NESTEROV True needs OPTIM.MOMENTUM above 0 and OPTIM.SGD_DAMPNING 0, got "
            f"{optim.MOMENTUM} and {optim.SGD_DAMPNING}"
        )
