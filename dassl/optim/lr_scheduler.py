"""Learning rate schedules in closed form: a warm-up, then steps or a cosine.

The original chains a warm-up object and a torch scheduler, and pickles both. Here the learning rate
is a function of the epoch, which is the only state.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import numpy as np
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from yacs.config import CfgNode

from ..config import complete
from ..utils.errors import UsageError, nearest

# Trainers that build a warm-up by hand import these from here.
from .warm_up import ConstantWarmupScheduler as ConstantWarmupScheduler
from .warm_up import LinearWarmupScheduler as LinearWarmupScheduler

Factor = Callable[[int], float]  # epoch -> multiple of the base learning rate
WarmUp = Callable[[int, float], float]  # epoch, base learning rate -> learning rate


class EpochScheduler(LRScheduler):
    """Scheduler with the learning rate `warm_up(epoch, base)`, then `base * factor(...)`.

    Args:
        factor: the schedule after the warm-up.
        warm_up: the learning rate of the first `warm_up_epochs` epochs.
        warm_up_epochs: number of warm-up epochs.
        recount: count the schedule's epochs from the end of the warm-up, starting with factor(0).
            Otherwise count from the start of training, and scale the schedule to start at the base
            learning rate: base * factor(e) / factor(warm_up_epochs).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: Factor,
        warm_up: WarmUp | None = None,
        warm_up_epochs: int = 0,
        recount: bool = True,
    ) -> None:
        self.factor = factor
        self.warm_up = warm_up
        self.warm_up_epochs = warm_up_epochs if warm_up is not None else 0
        self.first = 0 if recount else self.warm_up_epochs
        if not factor(self.first):
            raise UsageError(
                f"the learning rate is 0 when its warm-up of {self.warm_up_epochs} epochs ends; "
                "set OPTIM.WARMUP_RECOUNT True or OPTIM.MAX_EPOCH higher"
            )
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """Return the learning rate of each parameter group in epoch `last_epoch`."""
        epoch = self.last_epoch
        if self.warm_up is not None and epoch < self.warm_up_epochs:
            return [self.warm_up(epoch, float(base)) for base in self.base_lrs]
        scale = self.factor(epoch - self.warm_up_epochs + self.first) / self.factor(self.first)
        return [base * scale for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, and its learning rates to detect a changed schedule."""
        return {"last_epoch": self.last_epoch, "last_lr": [float(lr) for lr in self.get_last_lr()]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the epoch from a state of this class, torch's schedulers or the original's."""
        self.last_epoch = _finished_epochs(state_dict)
        self._step_count = self.last_epoch + 1
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr
        saved = state_dict.get("last_lr", state_dict.get("_last_lr"))
        if saved is None:
            return
        saved, current = ([float(lr) for lr in rates] for rates in (saved, self._last_lr))
        if len(saved) != len(current) or not np.allclose(saved, current, rtol=1e-6, atol=1e-12):
            print(
                f"The learning rate of epoch {self.last_epoch + 1} was {saved} in the checkpoint "
                f"but is {current} with the settings of this run, which are used"
            )


def _finished_epochs(state: dict[str, Any]) -> int:
    """Return the number of finished epochs of a scheduler's state.

    The original's warm-up stops counting when its pickled successor takes over. The successor's
    `_step_count` is one more than the number of its steps, also with WARMUP_RECOUNT.
    """
    epochs = int(state["last_epoch"])
    successor = state.get("successor")
    return epochs if successor is None else epochs + int(successor._step_count) - 1


def build_lr_scheduler(optimizer: Optimizer, optim_cfg: CfgNode) -> EpochScheduler:
    """Build the scheduler of cfg.OPTIM, to be stepped once per epoch.

    With CoOp's settings (cosine, one constant warm-up epoch), the learning rate is WARMUP_CONS_LR
    in epoch 0 and LR / 2 (1 + cos(pi (e - 1) / MAX_EPOCH)) in epoch e >= 1.

    Raises:
        UsageError: an unknown LR_SCHEDULER or WARMUP_TYPE, or a STEPSIZE of the wrong type.
    """
    optim_cfg = complete(optim_cfg, "OPTIM")
    name = optim_cfg.LR_SCHEDULER
    if name not in BUILDERS:
        raise UsageError(f"OPTIM.LR_SCHEDULER {name!r} is unknown: {nearest(name, BUILDERS)}")
    factor = BUILDERS[name](optim_cfg)
    if optim_cfg.WARMUP_EPOCH <= 0:
        return EpochScheduler(optimizer, factor)
    return EpochScheduler(
        optimizer,
        factor,
        warm_up=_build_warm_up(optim_cfg),
        warm_up_epochs=optim_cfg.WARMUP_EPOCH,
        recount=optim_cfg.WARMUP_RECOUNT,
    )


def _single_step(cfg: CfgNode) -> Factor:
    size = cfg.STEPSIZE[-1] if isinstance(cfg.STEPSIZE, list | tuple) else cfg.STEPSIZE
    if not isinstance(size, int):
        raise UsageError(f"OPTIM.STEPSIZE of single_step must be an integer, got {size!r}")
    period = size if size > 0 else cfg.MAX_EPOCH
    return lambda epoch: cfg.GAMMA ** (epoch // period)


def _multi_step(cfg: CfgNode) -> Factor:
    if not isinstance(cfg.STEPSIZE, list | tuple):
        raise UsageError(f"OPTIM.STEPSIZE of multi_step must be a list, got {cfg.STEPSIZE!r}")
    milestones = sorted(cfg.STEPSIZE)
    return lambda epoch: cfg.GAMMA ** bisect_right(milestones, epoch)


def _cosine(cfg: CfgNode) -> Factor:
    return lambda epoch: (1 + math.cos(math.pi * epoch / cfg.MAX_EPOCH)) / 2


BUILDERS = {"single_step": _single_step, "multi_step": _multi_step, "cosine": _cosine}
AVAI_SCHEDS = list(BUILDERS)


def _build_warm_up(cfg: CfgNode) -> WarmUp:
    if cfg.WARMUP_TYPE == "constant":
        return lambda epoch, base: cfg.WARMUP_CONS_LR
    if cfg.WARMUP_TYPE == "linear":
        return lambda epoch, base: (
            base * epoch / cfg.WARMUP_EPOCH if epoch else float(cfg.WARMUP_MIN_LR)
        )
    raise UsageError(
        f"OPTIM.WARMUP_TYPE {cfg.WARMUP_TYPE!r} is unknown: "
        f"{nearest(cfg.WARMUP_TYPE, ['constant', 'linear'])}"
    )
