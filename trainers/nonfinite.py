"""Stop training at its first infinite or NaN loss, without a device sync in every step.

The first bad step is recorded on the device and read where the host waits anyway: when losses are
printed, and at the end of an epoch, before anything is saved.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .settings import SettingsError

__all__ = ["LossWatch", "NonFiniteError"]

ADVICE = {
    "fp32": "",
    "amp": ", PREC fp32 (amp computes in half precision)",
    "bf16": ", PREC amp or fp32",
    "fp16": ", PREC amp (it scales the loss), bf16 or fp32",
}


class NonFiniteError(SettingsError, FloatingPointError):
    """A loss or weight is infinite or NaN; also a FloatingPointError, which Dassl raises."""


class LossWatch:
    """Records the first step with a loss that is not finite, and the losses of that step."""

    def __init__(self, precision: str) -> None:
        self.precision = precision  # PREC of the run, for the error message
        self._names: Sequence[str] = ()
        self._values: Tensor | None = None
        self._step: Tensor | None = None  # of the first bad loss, or -1

    def add(self, names: Sequence[str], values: Tensor, step: int) -> None:
        """Add the losses (K,) of a step without waiting for the device."""
        values = values.detach()
        if self._values is None or self._step is None:
            self._values, self._step = values, torch.full_like(values[0], -1, dtype=torch.long)
        self._names = names
        fine = self._step < 0
        self._values = torch.where(fine, values, self._values)
        self._step = torch.where(fine & ~values.isfinite().all(), step, self._step)

    def check(self, steps_per_epoch: int) -> None:
        """Wait for the device; raise NonFiniteError if a loss was not finite."""
        if self._values is None or self._step is None or (step := int(self._step)) < 0:
            return
        values = dict(zip(self._names, self._values.tolist(), strict=True))
        losses = ", ".join(f"{k} is {v}" for k, v in values.items() if not math.isfinite(v))
        epoch = step // steps_per_epoch + 1
        raise NonFiniteError(f"{losses} at epoch {epoch}, step {step + 1}: {self._advice()}")

    def check_weights(self, modules: Mapping[str, nn.Module], epoch: int) -> None:
        """Wait for the device; raise NonFiniteError if a tensor to be saved is not finite."""
        tensors = {
            f"{name}.{key}": value
            for name, module in modules.items()
            for key, value in module.state_dict().items()
            if value.is_floating_point()
        }
        finite = torch.stack([value.isfinite().all() for value in tensors.values()]).tolist()
        bad = [key for key, fine in zip(tensors, finite, strict=True) if not fine]
        if bad:
            raise NonFiniteError(
                f"{', '.join(bad)} became infinite or NaN in epoch {epoch + 1}, with finite "
                f"losses: {self._advice()}"
            )

    def _advice(self) -> str:
        return (
            f"this epoch is not saved; try a smaller OPTIM.LR{ADVICE[self.precision]}, and check "
            "the images and weights"
        )
