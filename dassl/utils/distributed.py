"""The processes of one run, as torchrun starts them: rank 0 is the main one, which alone writes.

In one process everything here is the identity, so that nobody who uses it has to ask how many
processes there are. Objects and tensors on the CPU travel by gloo, tensors on GPUs by NCCL.
"""

from __future__ import annotations

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

ENVIRONMENT = ("RANK", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets besides WORLD_SIZE


def is_active() -> bool:
    """Whether this process has joined others."""
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    """N, the number of processes."""
    return dist.get_world_size() if is_active() else 1


def rank() -> int:
    """The number of this process, 0..N-1."""
    return dist.get_rank() if is_active() else 0


def is_main() -> bool:
    """Whether this is the process that writes files and logs."""
    return rank() == 0


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started, and leave them at the end.

    Nothing happens where WORLD_SIZE is not set, or 1. If the run fails, the process that failed
    first lets its error through; the others, which fail likewise or miss it, end quietly.

    Raises:
        UsageError: WORLD_SIZE is set, and the addresses of the others are not.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count < 2:
        yield
        return
    missing = [name for name in ENVIRONMENT if name not in os.environ]
    if missing:
        raise UsageError(
            f"WORLD_SIZE is {count} in the environment, {' and '.join(missing)} not set: start "
            f"several processes with torchrun --nproc_per_node {count} train.py ..., or unset "
            "WORLD_SIZE"
        )
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    # Kept by torchrun, so it can be asked after a process has gone.
    failures = dist.PrefixStore("failures", dist.distributed_c10d._get_default_store())
    try:
        yield
    except BaseException:
        if failures.add("count", 1) == 1:
            raise
        sys.exit(1)
    dist.destroy_process_group()


def use_gpu() -> None:
    """Take the GPU of this process' place on its machine; UsageError if there are too few."""
    place, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if place >= gpus:
        raise UsageError(
            f"more processes on this machine than GPUs: start at most {gpus} (torchrun "
            f"--nproc_per_node {gpus}), or set USE_CUDA False to train on the CPU"
        )
    torch.cuda.set_device(place)


def barrier() -> None:
    """Wait until all processes are here."""
    if is_active():
        dist.all_reduce(torch.zeros(1))


@contextmanager
def main_first() -> Iterator[None]:
    """The main process goes through the block first: what it makes there, the others find."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def broadcast_from_main(function: Callable[[], T]) -> T:
    """What ``function`` returns in the main process, which alone calls it."""
    result: list[Any] = [function() if is_main() else None]
    if is_active():
        dist.broadcast_object_list(result)
    return result[0]


def all_gather(value: T) -> list[T]:
    """The value of every process, by rank."""
    values: list[Any] = [value] * world_size()
    if is_active():
        dist.all_gather_object(values, value)
    return values


def gather_batches(items: Iterable[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
    """Yield the items of all processes in the main one, and nothing in the others.

    Item i of the whole is that of process i modulo N; some may have one item less than others.
    """
    if not is_active():
        yield from items
        return
    held = list(items)  # first all of them: a copy to the CPU waits for the device
    own = [tuple(tensor.cpu() for tensor in item) for item in held]
    gathered: list[Any] | None = [None] * world_size() if is_main() else None
    dist.gather_object(own, gathered)
    if gathered is not None:
        for position in range(len(own)):
            yield from (other[position] for other in gathered if position < len(other))


@torch.no_grad()
def broadcast_state(modules: Iterable[nn.Module]) -> None:
    """Give all parameters and buffers the values that they have in the main process."""
    if is_active():
        for module in modules:
            for tensor in chain(module.parameters(), module.buffers()):
                dist.broadcast(tensor, src=0)
