"""Run jobs in worker processes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_unordered(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int
) -> Iterator[Result]:
    """Yield ``function(job)`` for every job, in the order in which they finish.

    The workers exit on their own when there is nothing left to do. ``multiprocessing.Pool`` ends
    them by SIGTERM, which a worker with an inherited Python handler can miss: the parent then waits
    forever.
    """
    with ProcessPoolExecutor(workers) as pool:
        futures = [pool.submit(function, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
