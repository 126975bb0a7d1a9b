"""Collectives among the processes of one run, as started by torchrun.

Rank 0 is the main process, which alone writes files and logs. In a single process all functions
are no-ops. Objects and CPU tensors use gloo, GPU tensors use NCCL.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .errors import UsageError

T = TypeVar("T")


def is_active() -> bool:
    """Return whether a process group is initialized."""
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if is_active() else 1


def rank() -> int:
    """Return the rank of this process."""
    return dist.get_rank() if is_active() else 0


def is_main() -> bool:
    """Return whether this is rank 0, which writes files and logs."""
    return rank() == 0


@contextmanager
def process_group() -> Iterator[None]:
    """Initialize the process group, and destroy it at the end of the context.

    Does nothing if WORLD_SIZE is unset or 1. If the run fails, the process that failed first
    raises its error and the others exit quietly.

    Raises:
        UsageError: WORLD_SIZE is set without torchrun's other variables, or one is no number.
    """
    count = _read_number("WORLD_SIZE", "1", 10_000)
    if count < 2:
        yield
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UsageError(
            f"WORLD_SIZE is {count} in the environment, but {' and '.join(missing)} not set: start "
            f"several processes with torchrun --nproc_per_node {count} train.py ..., or unset "
            "WORLD_SIZE"
        )
    _read_number("RANK", "0", count - 1)
    _read_number("MASTER_PORT", "0", 65535)
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    # torchrun keeps this store, so it is available after a process has exited.
    failures = dist.PrefixStore("failures", dist.distributed_c10d._get_default_store())
    try:
        yield
    except BaseException:
        if failures.add("count", 1) == 1:
            raise
        sys.exit(1)
    dist.destroy_process_group()


def _read_number(name: str, default: str, most: int) -> int:
    """Return a number of the environment; raise a UsageError if it is none from 0 to ``most``."""
    value = os.environ.get(name, default)
    if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value) <= most):
        raise UsageError(
            f"{name} is {value!r} in the environment, but must be a whole number from 0 to {most}: "
            "start several processes with torchrun, or unset it"
        )
    return int(value)


def set_device() -> None:
    """Select the GPU of this process' LOCAL_RANK; raise a UsageError if there are too few."""
    local_rank, gpus = _read_number("LOCAL_RANK", "0", 1024), torch.cuda.device_count()
    if local_rank >= gpus:
        raise UsageError(
            f"more processes on this machine than GPUs: start at most {gpus} (torchrun "
            f"--nproc_per_node {gpus}), or set USE_CUDA False to train on the CPU"
        )
    torch.cuda.set_device(local_rank)


def barrier() -> None:
    """Wait for all processes."""
    if is_active():
        dist.all_reduce(torch.zeros(1))


@contextmanager
def main_first() -> Iterator[None]:
    """Run the block in the main process before the others, which can use the files it writes."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def broadcast_from_main(function: Callable[[], T]) -> T:
    """Call ``function`` in the main process, and return its result in all processes."""
    result: list[Any] = [function() if is_main() else None]
    if is_active():
        dist.broadcast_object_list(result)
    return result[0]


def all_gather(value: T) -> list[T]:
    """Return the values of all processes by rank."""
    values: list[Any] = [value] * world_size()
    if is_active():
        dist.all_gather_object(values, value)
    return values


def gather_batches(items: Iterable[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
    """Yield the batches of all processes in the main process, and none in the others.

    Batch i is that of process i modulo world size; some processes may have one batch less.
    """
    if not is_active():
        yield from items
        return
    batches = list(items)  # before the copies to the CPU, which wait for the device
    own = [tuple(tensor.cpu() for tensor in item) for item in batches]
    gathered: list[Any] | None = [None] * world_size() if is_main() else None
    dist.gather_object(own, gathered)
    if gathered is not None:
        for position in range(len(own)):
            yield from (other[position] for other in gathered if position < len(other))


@torch.no_grad()
def broadcast_state(modules: Iterable[nn.Module]) -> None:
    """Broadcast all parameters and buffers of the main process."""
    if is_active():
        for module in modules:
            for tensor in chain(module.parameters(), module.buffers()):
                dist.broadcast(tensor, src=0)
