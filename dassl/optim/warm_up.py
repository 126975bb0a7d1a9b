"""Warm-up schedulers around a scheduler of torch, for trainers that build them by hand.

`build_lr_scheduler` does not use them: its schedules are functions of the epoch.
"""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..utils.errors import UsageError


class WarmUpScheduler(LRScheduler):
    """A warm-up of ``warmup_epoch`` epochs, after which ``successor`` is stepped instead.

    ``successor`` is built on the same optimizer before, and starts at its epoch 0. With
    ``verbose``, each step prints the learning rates.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        self.verbose = verbose
        super().__init__(optimizer, last_epoch)

    def warm_up(self, base: float) -> float:
        """Return the learning rate of epoch ``last_epoch`` in the warm-up."""
        raise NotImplementedError

    def get_lr(self) -> list[Any]:
        """Return the learning rate of each parameter group."""
        if self.last_epoch < self.warmup_epoch:
            return [self.warm_up(float(base)) for base in self.base_lrs]
        return list(self.successor.get_last_lr())

    def step(self, epoch: int | None = None) -> None:
        """Go to the next epoch; ``epoch`` must be None, as in torch."""
        if epoch is not None:
            raise UsageError("a scheduler is stepped epoch by epoch: call step() without a number")
        if self.last_epoch < self.warmup_epoch:
            super().step()
        else:
            self.successor.step()
            self._last_lr = self.successor.get_last_lr()
        if self.verbose:
            print(f"Learning rates: {', '.join(f'{float(lr):.4e}' for lr in self.get_last_lr())}")

    def state_dict(self) -> dict[str, Any]:
        """Return the epochs of the warm-up and of its successor, and the learning rates."""
        return {
            "last_epoch": self.last_epoch,
            "last_lr": [float(lr) for lr in self.get_last_lr()],
            "successor": self.successor.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        self.successor.load_state_dict(state_dict["successor"])
        self.last_epoch = int(state_dict["last_epoch"])
        self._step_count = self.last_epoch + 1
        self._last_lr = list(state_dict["last_lr"])
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr


class ConstantWarmupScheduler(WarmUpScheduler):
    """A warm-up with the learning rate ``cons_lr``."""

    def __init__(
        self,
        optimizer: Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        cons_lr: float,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        self.cons_lr = cons_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch, verbose)

    def warm_up(self, base: float) -> float:
        """Return the constant."""
        return self.cons_lr


class LinearWarmupScheduler(WarmUpScheduler):
    """A warm-up with ``min_lr`` in epoch 0, then base x epoch / ``warmup_epoch``."""

    def __init__(
        self,
        optimizer: Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        min_lr: float,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        self.min_lr = min_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch, verbose)

    def warm_up(self, base: float) -> float:
        """Return the next point of the line."""
        return base * self.last_epoch / self.warmup_epoch if self.last_epoch else self.min_lr
