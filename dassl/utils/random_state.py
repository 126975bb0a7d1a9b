"""The random generators that training draws from: seed, read, restore."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from .errors import UsageError

RandomState = dict[str, Any]


def set_random_seed(seed: int) -> None:
    """Seed random, numpy, torch and every GPU, in this order; UsageError for no 32-bit number."""
    if not 0 <= seed < 2**32:
        raise UsageError(f"SEED must be at least 0 and less than 2**32 (4294967296), got {seed}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def get_random_state() -> RandomState:
    """Return the state of all generators in plain containers and tensors, safe to pickle."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    numbers = torch.from_numpy(np.asarray(keys).astype(np.int64))
    return {
        "python": random.getstate(),
        "numpy": (str(kind), numbers, int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: RandomState) -> None:
    """Restore what `get_random_state` returned; GPU states only where the GPUs are as many.

    Raises:
        UsageError: the state was taken on another number of GPUs (0 excepted, on either side).
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
                f"the random states are those of {len(state['cuda'])} GPUs, this run sees {gpus}; "
                "set CUDA_VISIBLE_DEVICES to as many"
            )
        torch.cuda.set_rng_state_all([gpu_state.cpu() for gpu_state in state["cuda"]])


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Leave every generator as it was, whatever is drawn inside."""
    state = get_random_state()
    try:
        yield
    finally:
        set_random_state(state)
