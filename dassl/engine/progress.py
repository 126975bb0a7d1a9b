"""Progress of an epoch: log lines, a progress bar, and scalars."""

import datetime
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from tqdm import tqdm

from ..utils.errors import NonFiniteLossError
from ..utils.meters import AverageMeter, MetricMeter, Number
from ..utils.tools import is_terminal

Item = TypeVar("Item")


def bar(items: Iterable[Item], total: int, title: str) -> "tqdm[Item]":
    """Return a progress bar on stderr, which is disabled if stdout is not a terminal."""
    return tqdm(items, total=total, desc=title, leave=False, disable=not is_terminal(sys.stdout))


@dataclass
class EpochLog:
    """Time, average, print and write the steps of one epoch.

    Losses may be tensors. They are read, which waits for the device, only when a line is printed;
    their scalars are written then.
    """

    epoch: int  # index of the epoch
    max_epoch: int
    num_batches: int
    print_freq: int  # steps between two lines; an epoch with fewer steps prints every step
    get_lr: Callable[[], float]
    write: Callable[[str, float, int], None]  # TrainerBase.write_scalar

    def __post_init__(self) -> None:
        self.losses = MetricMeter()
        self.batch_time = AverageMeter()
        self.data_time = AverageMeter()
        self.steps = 0
        self._pending: list[tuple[str, Number, int]] = []

    def watch(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Yield the batches; call `step` after each."""
        self._start = time.perf_counter()
        for batch in bar(batches, self.num_batches, f"epoch {self.epoch + 1}/{self.max_epoch}"):
            self.data_time.update(time.perf_counter() - self._start)
            self.lr = self.get_lr()  # before the step, since the last one updates it
            yield batch
            self._start = time.perf_counter()

    def step(self, loss_summary: Mapping[str, Number] | None) -> None:
        """Add the return value of a step's forward_backward."""
        self.batch_time.update(time.perf_counter() - self._start)
        self.losses.update(loss_summary)
        step = self.epoch * self.num_batches + self.steps
        for name, meter in self.losses.meters.items():
            self._pending.append((f"train/{name}", meter.lazy_avg, step))
        self._pending.append(("train/lr", self.lr, step))
        self.steps += 1
        if self.steps % self.print_freq == 0 or self.num_batches < self.print_freq:
            self._flush()
            tqdm.write(str(self), file=sys.stdout)
        elif self.steps == self.num_batches:
            self._flush()

    def _flush(self) -> None:
        """Write the pending scalars; raise a NonFiniteLossError for infinite or NaN values."""
        for tag, value, step in self._pending:
            number = float(value)
            if not math.isfinite(number):
                raise NonFiniteLossError(
                    describe_non_finite(tag.removeprefix("train/"), number, self.epoch, step)
                )
            self.write(tag, number, step)
        self._pending.clear()

    def __str__(self) -> str:
        remaining = (self.max_epoch - self.epoch) * self.num_batches - self.steps
        eta = datetime.timedelta(seconds=int(self.batch_time.avg * remaining))
        return (
            f"epoch [{self.epoch + 1}/{self.max_epoch}] "
            f"batch [{self.steps}/{self.num_batches}] "
            f"time {self.batch_time.val:.3f} ({self.batch_time.avg:.3f}) "
            f"data {self.data_time.val:.3f} ({self.data_time.avg:.3f}) "
            f"{self.losses} lr {self.lr:.4e} eta {eta}"
        )


def describe_non_finite(name: str, value: float, epoch: int, step: int) -> str:
    """Return the message for a loss that is infinite or NaN, counting from epoch and step 1."""
    return (
        f"{name} is {value} at epoch {epoch + 1}, step {step + 1}: try a lower OPTIM.LR, fp32 "
        "instead of fp16 or amp (the trainer's PREC), and check for broken images or weights"
    )
