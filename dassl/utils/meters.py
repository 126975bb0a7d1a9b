"""Running averages that do not wait for the device."""

from collections import defaultdict
from collections.abc import Mapping

from torch import Tensor

Number = float | Tensor


class AverageMeter:
    """The last value and the average of all values.

    Tensors (with one element) stay on their device until `val`, `sum` or `avg` is read, so that
    updates do not synchronize host and device.

    With `ema` the average is exponential (0.9 old + 0.1 new, starting at 0).
    """

    def __init__(self, ema: bool = False) -> None:
        self.ema = ema
        self.reset()

    def reset(self) -> None:
        self.count = 0
        self._val: Number = 0.0
        self._sum: Number = 0.0
        self._ema: Number = 0.0

    def update(self, val: Number, n: int = 1) -> None:
        """Add a value that is the mean of `n` items."""
        if isinstance(val, Tensor):
            val = val.detach().clone()  # the caller may change its tensor in place
        self._val = val
        self._sum = self._sum + val * n
        self._ema = self._ema * 0.9 + val * 0.1
        self.count += n

    @property
    def val(self) -> float:
        return float(self._val)

    @property
    def sum(self) -> float:
        return float(self._sum)

    @property
    def avg(self) -> float:
        return float(self.lazy_avg)

    @property
    def lazy_avg(self) -> Number:
        """The average, as a tensor if the values are tensors."""
        if self.ema:
            return self._ema
        return self._sum / max(self.count, 1)


class MetricMeter:
    """Named AverageMeters, printed as "loss 1.2000 (1.3000) acc 50.0000 (48.0000)"."""

    def __init__(self, delimiter: str = " ") -> None:
        self.meters: defaultdict[str, AverageMeter] = defaultdict(AverageMeter)
        self.delimiter = delimiter

    def update(self, input_dict: Mapping[str, Number] | None) -> None:
        """Add values by name; None adds nothing."""
        if input_dict is None:
            return
        if not isinstance(input_dict, Mapping):
            raise TypeError(
                "MetricMeter.update takes a dict of named losses (returned by forward_backward), "
                f"got {type(input_dict).__name__}"
            )
        for name, value in input_dict.items():
            self.meters[name].update(value)

    def __str__(self) -> str:
        return self.delimiter.join(
            f"{name} {meter.val:.4f} ({meter.avg:.4f})" for name, meter in self.meters.items()
        )
