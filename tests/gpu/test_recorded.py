"""Replay the recorded runs on CUDA in every precision."""

import numpy as np
import pytest

from tests.replay_precision import FOLLOWED, UNIT_ROUNDOFF, assert_follows, follow

# In u of float32: five times the deviation of the replay on a CPU (72 and 290).
BOUNDS = {"coop": 360.0, "promptkd": 1450.0}


pytestmark = pytest.mark.usefixtures("same_threads")


@pytest.mark.parametrize("trace", ["coop", "promptkd"])
def test_float32_matches_the_recorded_run(trace):
    found = follow(trace, "fp32", cuda=True).largest(99, FOLLOWED | {"cache"})
    unit = UNIT_ROUNDOFF["fp32"]
    shown = {name: f"{distance / unit:.1f} u" for name, distance in found.items()}
    assert np.isfinite(list(found.values())).all()
    assert max(found.values()) <= BOUNDS[trace] * unit, shown


@pytest.mark.parametrize("trace", ["coop", "promptkd"])
@pytest.mark.parametrize(
    ("precision", "kind"), [("amp", "fp16"), ("bf16", "bf16"), ("fp16", "fp16")]
)
def test_half_precisions_match_the_recorded_run(trace, precision, kind):
    assert_follows(trace, follow(trace, precision, cuda=True), kind)
