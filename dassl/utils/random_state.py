"""Seed, save and restore the random generators of Python, NumPy and torch."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from .errors import UsageError

RandomState = dict[str, Any]


def set_random_seed(seed: int) -> None:
    """Seed random, numpy, torch and all GPUs; raise a UsageError if not 0 <= seed < 2**32."""
    if not 0 <= seed < 2**32:
        raise UsageError(f"SEED must be at least 0 and less than 2**32 (4294967296), got {seed}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def derive_seed(*entropy: int) -> int:
    """Return a 32-bit seed from non-negative integers, mixed by ``numpy.random.SeedSequence``."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


@contextmanager
def seeded(*entropy: int) -> Iterator[None]:
    """Seed the global CPU generators within the context, and restore them afterwards.

    GPU generators are unchanged: a forked data worker must not use a GPU.
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


def get_random_state() -> RandomState:
    """Return the states of all generators in plain containers and tensors, safe to pickle."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    numbers = torch.from_numpy(np.asarray(keys).astype(np.int64))
    return {
        "python": random.getstate(),
        "numpy": (str(kind), numbers, int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: RandomState) -> None:
    """Restore the result of `get_random_state`.

    Raises:
        UsageError: the state is of another number of GPUs, and neither number is 0.
    """
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if state["cuda"] and gpus:
        if len(state["cuda"]) != gpus:
            raise UsageError(
                f"the random states are those of {len(state['cuda'])} GPUs, but {gpus} are "
                f"visible: set CUDA_VISIBLE_DEVICES to {len(state['cuda'])} GPUs"
            )
        torch.cuda.set_rng_state_all([gpu_state.cpu() for gpu_state in state["cuda"]])


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore the states of all generators at the end of the context."""
    state = get_random_state()
    try:
        yield
    finally:
        set_random_state(state)
