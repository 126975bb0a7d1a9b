"""Random numbers that depend on what is drawn for, and on nothing that ran before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(*entropy: int) -> int:
    """A 32-bit seed from non-negative integers, well mixed (``numpy.random.SeedSequence``)."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


@contextmanager
def seeded(*entropy: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch (CPU) inside; restore them after.

    GPU generators are left alone: a forked data worker must not touch a GPU.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = derive_seed(*entropy)
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
