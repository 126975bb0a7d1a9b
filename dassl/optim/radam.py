"""RAdam (Liu et al., arXiv:1908.03265) under the original's name and arguments."""

from typing import Any, NoReturn

import torch

from ..utils.errors import UsageError


class RAdam(torch.optim.RAdam):
    """torch's RAdam with the original's decoupled weight decay.

    While the variance cannot be rectified (the first steps), it steps by the momentum alone, which
    the original calls degenerated_to_sgd.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        degenerated_to_sgd: bool = True,
    ) -> None:
        if not degenerated_to_sgd:
            raise UsageError(
                "RAdam with degenerated_to_sgd False, which skips the first steps, is not "
                "supported: leave it out"
            )
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay=True)


class PlainRAdam(RAdam):
    """The same; in the original it differs from RAdam in what it keeps between steps."""


def __getattr__(name: str) -> NoReturn:
    """Raise a UsageError for the original's AdamW, which is not torch's."""
    if name == "AdamW":
        raise UsageError("dassl.optim.radam has no AdamW here: use torch.optim.AdamW")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
