"""Time and count the operations of functions."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["flops", "in_turns", "paired_ratios", "power_law", "seconds"]


def seconds(run: Callable[[], Any], cuda: bool) -> float:
    """Return the duration of one run, by CUDA events on a GPU and by the clock on a CPU."""
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
    """Return the median seconds of each run, alternated A B A B ... after one warm-up of each.

    No turn begins after ``budget`` seconds, except the first ``least``. There is no warm-up if
    the functions are ``warm`` already.
    """
    if not warm:
        for run in runs.values():
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
    """Return the time of ``second`` divided by that of ``first`` for each of ``pairs`` pairs.

    The order alternates within the pairs, which cancels drift of the machine and effects of the
    order. Each function runs once before, as a warm-up.
    """
    runs = (first, second)
    first(), second()
    ratios = []
    for pair in range(pairs):
        order = (1, 0) if pair % 2 else (0, 1)
        times = {i: seconds(runs[i], cuda) for i in order}
        ratios.append(times[1] / times[0])
    return ratios


def flops(run: Callable[[], Any]) -> int:
    """Count the multiplications and additions in the matrix products of one run."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def power_law(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return the exponent k of cost ~ size^k, by least squares over the logarithms."""
    x, y = [math.log(s) for s in sizes], [math.log(c) for c in costs]
    return statistics.linear_regression(x, y).slope
