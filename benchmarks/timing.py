"""Seconds of several things, measured in turns."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["flops", "in_turns", "paired_ratios", "power_law", "seconds"]


def seconds(run: Callable[[], Any], cuda: bool) -> float:
    """Of one run: by CUDA events on a GPU, by the clock on a CPU."""
    if not cuda:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


def in_turns(
    runs: Mapping[str, Callable[[], Any]],
    cuda: bool,
    budget: float,
    most: int,
    least: int = 2,
    warm: bool = False,
) -> dict[str, float]:
    """Median seconds of each, measured A B A B ... after one warm-up of each.

    Args:
        runs: name -> what to run.
        cuda: whether they run on a GPU.
        budget: seconds after which no new turn begins, once there were ``least``.
        most: turns at most.
        least: turns at least.
        warm: whether each has run before, so that no warm-up is needed.
    """
    for run in runs.values():
        if not warm:
            run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    for turn in range(most):
        if turn >= least and time.perf_counter() - begin > budget:
            break
        for name, run in runs.items():
            times[name].append(seconds(run, cuda))
    return {name: statistics.median(values) for name, values in times.items()}


def paired_ratios(
    first: Callable[[], Any], second: Callable[[], Any], cuda: bool, pairs: int
) -> list[float]:
    """The time of ``second`` divided by that of ``first``, in each of ``pairs`` pairs.

    Who begins alternates, so that neither a drift of the machine nor the first place of a pair
    counts. For two that are nearly the same; each is run once before, to warm up.
    """
    ratios = []
    first(), second()
    for pair in range(pairs):
        if pair % 2:
            late = seconds(second, cuda)
            ratios.append(late / seconds(first, cuda))
        else:
            early = seconds(first, cuda)
            ratios.append(seconds(second, cuda) / early)
    return ratios


def flops(run: Callable[[], Any]) -> int:
    """Multiplications and additions of one run's matrix products, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def power_law(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The exponent k of cost ~ size^k, by least squares over the logarithms."""
    x, y = [math.log(s) for s in sizes], [math.log(c) for c in costs]
    return statistics.linear_regression(x, y).slope
