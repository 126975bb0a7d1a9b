"""Controls of the refiner: what its parts bring is measured by replacing one of them.

`ControlledRefiner` is the refiner with other inputs of W, another form or start of W, another read,
or T' normalized again. Settings of TRAINER.TEXTREFINER choose them, scripts/ablate.py compares
them, and docs/method.md ("Controls") defines them.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .refiner import TextRefiner

__all__ = ["ControlledRefiner", "Controls"]


@dataclass(frozen=True, kw_only=True)
class Controls:
    """What is replaced; the defaults replace nothing.

    aggregate: inputs of W: both, text (W1 T) or read (W2 R).
    read: each (a class has its own read), mean (all have the mean over the classes), or shuffled
        (a class has the read of the class C // 2 places before it, cyclically). With one class all
        three are the same.
    rank: r of W = U V, V (r, inputs) and U (d, r); 0: one full matrix.
    zero_start: W, or U, starts at zero and not as torch.nn.Linear does.
    renormalize: T' is L2-normalized.
    """

    aggregate: str = "both"
    read: str = "each"
    rank: int = 0
    zero_start: bool = False
    renormalize: bool = False


class ControlledRefiner(TextRefiner):
    """TextRefiner with `Controls`; the other arguments are those of TextRefiner."""

    def __init__(self, token_dim: int, dim: int, *, controls: Controls, **settings: Any) -> None:
        super().__init__(token_dim, dim, **settings)
        self.controls = controls
        if controls.aggregate != "both" or controls.rank:
            self.aggregate = _aggregation(dim, controls)
        if controls.zero_start:
            *_, last = self.aggregate.parameters()
            nn.init.zeros_(last)

    def read(self, text: Tensor) -> Tensor:
        """Return the read that each class is given, (..., C, d), for T, (..., C, d)."""
        read = super().read(text)
        if self.controls.read == "mean":
            return read.mean(dim=-2, keepdim=True).expand_as(read)
        if self.controls.read == "shuffled":
            # Half the list away, and not by chance: train and test repeat it, and no class but a
            # single one keeps its own read.
            return read.roll(read.shape[-2] // 2, dims=-2)
        return read

    def combine(self, text: Tensor, read: Tensor) -> Tensor:
        """Return T + alpha W x, (..., C, d), for the inputs x, normalized again if so chosen."""
        refined = super().combine(text, read)
        return F.normalize(refined, dim=-1) if self.controls.renormalize else refined

    def added(self, text: Tensor, read: Tensor) -> Tensor:
        """Return alpha W x, (..., C, d), for the inputs x that are chosen."""
        inputs = {"both": (text, read), "text": (text,), "read": (read,)}[self.controls.aggregate]
        return self.alpha * self.aggregate(torch.cat(inputs, dim=-1))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.controls}"


def _aggregation(dim: int, controls: Controls) -> nn.Sequential:
    """Return W of another form than the method's.

    Its layers have names, so that no checkpoint of it is mistaken for one of the method.
    """
    width = 2 * dim if controls.aggregate == "both" else dim
    if not controls.rank:
        return nn.Sequential(OrderedDict({controls.aggregate: nn.Linear(width, dim, bias=False)}))
    down = nn.Linear(width, controls.rank, bias=False)
    up = nn.Linear(controls.rank, dim, bias=False)
    return nn.Sequential(OrderedDict(down=down, up=up))
