"""Learning rates by epoch: a warm-up, then steps or a cosine, each in closed form.

The original chains a warm-up object and a torch scheduler, and pickles both. Here the rate is a
function of the epoch alone, so the only state is the epoch.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from yacs.config import CfgNode

from ..utils.errors import UsageError, nearest

Factor = Callable[[int], float]  # epoch -> multiple of the base rate
WarmUp = Callable[[int, float], float]  # epoch, base rate -> rate


class EpochScheduler(LRScheduler):
    """The rate of each epoch e: `warm_up(e, base)` at first, then `base * factor(...)`.

    Args:
        factor: the schedule after the warm-up.
        warm_up: the rate of the first `warm_up_epochs` epochs.
        recount: the schedule counts its epochs from the end of the warm-up, beginning with
            factor(0). Otherwise it counts from the start of training, scaled so that it leaves
            the warm-up at the base rate: base * factor(e) / factor(warm_up_epochs).
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
        """Rates of epoch `last_epoch`, one for each parameter group."""
        epoch = self.last_epoch
        if self.warm_up is not None and epoch < self.warm_up_epochs:
            return [self.warm_up(epoch, float(base)) for base in self.base_lrs]
        scale = self.factor(epoch - self.warm_up_epochs + self.first) / self.factor(self.first)
        return [base * scale for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """The epoch, and the rates of it to notice a schedule that was changed in between."""
        return {"last_epoch": self.last_epoch, "last_lr": [float(lr) for lr in self.get_last_lr()]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to the epoch of a state of this class, of torch's schedulers or of the original's."""
        self.last_epoch = _finished_epochs(state_dict)
        self._step_count = self.last_epoch + 1
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr
        saved = state_dict.get("last_lr", state_dict.get("_last_lr"))
        if saved is not None and not _all_close(saved, self._last_lr):
            print(
                f"The learning rate of epoch {self.last_epoch + 1} was {saved} in the checkpoint "
                f"and is {self._last_lr} by the settings of this run, which hold"
            )


def _finished_epochs(state: dict[str, Any]) -> int:
    """Epochs that a scheduler's state has seen.

    The original's warm-up stops counting where it hands over to its pickled successor, which
    counts on; torch's `_step_count` is one more than the steps taken, whatever WARMUP_RECOUNT did
    to the successor's own epoch.
    """
    epochs = int(state["last_epoch"])
    successor = state.get("successor")
    return epochs if successor is None else epochs + int(successor._step_count) - 1


def _all_close(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(
        math.isclose(float(x), float(y), rel_tol=1e-6, abs_tol=1e-12)
        for x, y in zip(a, b, strict=True)
    )


def build_lr_scheduler(optimizer: Optimizer, optim_cfg: CfgNode) -> EpochScheduler:
    """Build the schedule of cfg.OPTIM; step it once per epoch.

    With the family's usual settings (cosine, one constant warm-up epoch), epoch 0 runs at
    WARMUP_CONS_LR and epoch e >= 1 at LR / 2 (1 + cos(pi (e - 1) / MAX_EPOCH)).

    Raises:
        UsageError: an unknown LR_SCHEDULER or WARMUP_TYPE, or a STEPSIZE of the wrong form.
    """
    factor = _build_factor(optim_cfg)
    if optim_cfg.WARMUP_EPOCH <= 0:
        return EpochScheduler(optimizer, factor)
    return EpochScheduler(
        optimizer,
        factor,
        warm_up=_build_warm_up(optim_cfg),
        warm_up_epochs=optim_cfg.WARMUP_EPOCH,
        recount=optim_cfg.WARMUP_RECOUNT,
    )


def _build_factor(cfg: CfgNode) -> Factor:
    builders = {"single_step": _single_step, "multi_step": _multi_step, "cosine": _cosine}
    if cfg.LR_SCHEDULER not in builders:
        raise UsageError(
            f"OPTIM.LR_SCHEDULER {cfg.LR_SCHEDULER!r} is unknown: "
            f"{nearest(cfg.LR_SCHEDULER, builders)}"
        )
    return builders[cfg.LR_SCHEDULER](cfg)


def _single_step(cfg: CfgNode) -> Factor:
    size = cfg.STEPSIZE[-1] if isinstance(cfg.STEPSIZE, list | tuple) else cfg.STEPSIZE
    if not isinstance(size, int):
        raise UsageError(f"OPTIM.STEPSIZE of single_step is a number of epochs, got {size!r}")
    period = size if size > 0 else cfg.MAX_EPOCH
    return lambda epoch: cfg.GAMMA ** (epoch // period)


def _multi_step(cfg: CfgNode) -> Factor:
    if not isinstance(cfg.STEPSIZE, list | tuple):
        raise UsageError(f"OPTIM.STEPSIZE of multi_step is a list of epochs, got {cfg.STEPSIZE!r}")
    milestones = sorted(cfg.STEPSIZE)
    return lambda epoch: cfg.GAMMA ** bisect_right(milestones, epoch)


def _cosine(cfg: CfgNode) -> Factor:
    return lambda epoch: (1 + math.cos(math.pi * epoch / cfg.MAX_EPOCH)) / 2


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
