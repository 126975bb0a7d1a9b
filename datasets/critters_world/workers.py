"""Run jobs in worker processes."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int
) -> Iterator[Result]:
    """Yield ``function(job)`` for every job, in order.

    ``multiprocessing.Pool`` would end its workers with SIGTERM, which they can miss if they inherit
    a Python handler, such as that of the commands in scripts/; the pool then waits forever.
    """
    with ProcessPoolExecutor(workers, initializer=_exit_with_parent) as executor:
        yield from executor.map(function, jobs)


def _exit_with_parent() -> None:
    """Start a thread that ends this worker if its parent process is killed."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
