"""Refuse logits that are not finite, which an argmax would turn into predictions of class 0."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .utils import distributed
from .utils.errors import UsageError

REMEDY = (
    "check the weights (MODEL.BACKBONE.NAME, --model-dir) and this image, and if the trainer's "
    "PREC is fp16, set it to bf16 or fp32"
)


class LogitCheck:
    """Remembers which images of a test have logits without a finite maximum.

    Logits of -inf are allowed besides a finite one: they exclude classes from the comparison.
    """

    def __init__(self) -> None:
        self._bad: list[Tensor] = []  # (B,) for each batch, on its device
        self._paths: list[Any] = []

    def add(self, logits: Any, batch: Any) -> None:
        """Add the logits (B, C) of a batch; other outputs of a model are not checked.

        The host waits for the device after batches 1, 2, 4, 8, ... only, so that broken weights
        are found at once and a test is not slowed down.

        Raises:
            UsageError: as `check`.
        """
        if not isinstance(logits, Tensor) or logits.dim() != 2 or not logits.is_floating_point():
            return
        # The maximum is NaN if any logit is, and -inf only if all are.
        self._bad.append(~logits.detach().amax(dim=1).isfinite())
        self._paths.append(batch.get("impath") if isinstance(batch, Mapping) else None)
        count = len(self._bad)
        if distributed.world_size() == 1 and count & (count - 1) == 0:
            self.check()

    def check(self) -> None:
        """Wait for the device and look at all images added so far, in all processes.

        Raises:
            UsageError: a maximum is not finite; the message names the first of these images.
        """
        flags = torch.cat(self._bad).tolist() if self._bad else []
        first = self._first() if any(flags) else None
        parts = distributed.all_gather((first, sum(flags), len(flags)))
        firsts = [part[0] for part in parts if part[0] is not None]
        if not firsts:
            return
        bad, total = sum(part[1] for part in parts), sum(part[2] for part in parts)
        more = f" (and of {bad - 1:,} more of {total:,} tested images)" if bad > 1 else ""
        raise UsageError(
            f"the logits of {min(firsts)[-1]!r}{more} are NaN or infinite, so that they predict "
            f"nothing: {REMEDY}"
        )

    def _first(self) -> tuple[int, int, int, str] | None:
        """Return batch, rank, row and path of the first bad image of this process."""
        for number, (bad, paths) in enumerate(zip(self._bad, self._paths, strict=True)):
            for row in bad.nonzero().flatten().tolist()[:1]:
                path = paths[row] if paths else f"image {row + 1} of batch {number + 1}"
                return number, distributed.rank(), row, str(path)
        return None
