"""Recorded runs replayed in another precision, deviations counted in its unit roundoff."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.replay import replay
from tests.replay_trace import Deviations

DATA = Path(__file__).parent / "data"
NODES = {"coop": "COOP", "promptkd": "PROMPTKD"}

# u, half of the distance from 1 to the next number: the largest relative error of one rounding.
UNIT_ROUNDOFF = {"fp32": 2.0**-24, "fp16": 2.0**-11, "bf16": 2.0**-8}

# Quantities computed from rounded encoders: losses, trained weights, features, logits.
FOLLOWED = {
    *("loss1", "loss2", "loss3", "L_ukd", "L_sem", "L_mem"),
    *("ctx", "student_prompts", "extractor", "bn_running_mean"),
    *("image_features", "eval/logits", "eval/text_features"),
}
# Trace -> (steps, bound in u). The encoders round their activations about 100 times, so a step's
# losses and gradients are off by a few u, of either sign; 20 steps of CoOp may add 2 u each. The
# trace of PromptKD amplifies differences, also in float32, where the replay deviates by 290 u: 12
# steps at that rate leave little to compare, so the bound of CoOp applies to its first 4 steps.
BOUNDS = {"coop": [(20, 40.0)], "promptkd": [(4, 40.0), (12, 200.0)]}
# Rounding can change the entry that a token is assigned to: then 1 - momentum of the
# token moves to another entry, the bound for the cache.
CACHE = 0.2


class Relative(Deviations):
    """Relative distance |a - b| / |b| of each recorded value, with its step."""

    def __init__(self) -> None:
        super().__init__({}, (), 1.0)
        self.seen: list[tuple[int, str, float]] = []

    def add(self, name: str, actual: Any, recorded: Any) -> None:
        """Compare as in `Deviations`, and store the relative distance."""
        super().add(name, actual, recorded)
        if isinstance(actual, torch.Tensor):
            actual = actual.detach().double().cpu().numpy()
        recorded = np.asarray(recorded, dtype=np.float64)
        difference = np.asarray(actual, dtype=np.float64).reshape(recorded.shape) - recorded
        size = max(float(np.linalg.norm(recorded)), 1e-30)
        self.seen.append((self.step, name, float(np.linalg.norm(difference)) / size))

    def largest(self, steps: int, names: set[str]) -> dict[str, float]:
        """Return the largest distance by name over the first ``steps`` (NaN counts as infinite)."""
        found: dict[str, float] = {}
        for step, name, distance in self.seen:
            if step < steps and name in names:
                far = np.inf if np.isnan(distance) else distance
                found[name] = max(found.get(name, 0.0), far)
        return found


def follow(trace: str, prec: str, cuda: bool = False) -> Relative:
    """Replay tests/data/<trace>.npz with PREC ``prec`` and return the distances of each step."""
    deviations = Relative()
    overrides = {f"TRAINER.{NODES[trace]}.PREC": prec, "USE_CUDA": cuda}
    replay(DATA / f"{trace}.npz", overrides, deviations)
    return deviations


def assert_follows(trace: str, deviations: Relative, kind: str) -> None:
    """Check the bounds above for encoders in precision ``kind`` (a key of `UNIT_ROUNDOFF`)."""
    unit = UNIT_ROUNDOFF[kind]
    for steps, bound in BOUNDS[trace]:
        found = deviations.largest(steps, FOLLOWED)
        assert len(found) >= 5
        shown = {name: f"{distance / unit:.1f} u" for name, distance in found.items()}
        assert max(found.values()) <= bound * unit, f"more than {bound} u within {steps}: {shown}"
        assert max(found.values()) > 0.1 * unit, f"not computed in {kind}: {shown}"
    (cache,) = deviations.largest(10**9, {"cache"}).values()
    assert cache <= CACHE
