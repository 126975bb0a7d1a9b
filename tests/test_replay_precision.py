"""Half precisions follow the recorded float32 runs; the bounds are in tests/replay_precision.py.

Measured on a CPU, largest relative distance in u of the type (bounds: 40, and 200 for "all"):

| trace              |  amp | bf16 | fp16 |
| ------------------ | ---- | ---- | ---- |
| coop, 20 steps     |  19  |  26  |  21  |
| promptkd, 4 steps  |  19  |  23  |  15  |
| promptkd, all 12   | 101  | 156  | 141  |
"""

import pytest
import torch

from tests.replay_precision import assert_follows, follow
from trainers import backbone

pytestmark = pytest.mark.usefixtures("same_threads")


@pytest.mark.parametrize("trace", ["coop", "promptkd"])
@pytest.mark.parametrize("precision", ["amp", "bf16", "fp16"])
def test_half_precisions_follow_the_recorded_run(trace, precision, monkeypatch):
    prec = precision
    if precision == "fp16":  # refused on a CPU as slow, not as wrong
        monkeypatch.setitem(backbone.HALVES, "bf16", torch.float16)
        prec = "bf16"
    assert_follows(trace, follow(trace, prec), "fp16" if precision == "fp16" else "bf16")
