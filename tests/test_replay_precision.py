"""Half precisions match the recorded float32 runs within the bounds of replay_precision.py.

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
def test_half_precisions_match_the_recorded_run(trace, precision, monkeypatch):
    prec = precision
    if precision == "fp16":  # not allowed on a CPU because it is slow, not because it is wrong
        monkeypatch.setitem(backbone.HALVES, "bf16", torch.float16)
        prec = "bf16"
    assert_follows(trace, follow(trace, prec), "fp16" if precision == "fp16" else "bf16")
