"""Run jobs in worker processes."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_unordered(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int
) -> Iterator[Result]:
    """Yield ``function(job)`` for every job, in the order in which they finish.

    After the last job the workers exit on their own. Leaving ``Pool`` without ``close`` and
    ``join`` sends them SIGTERM instead. If the parent process has a Python handler for SIGTERM, as
    the commands in scripts/ do, forked workers inherit it; the signal is then lost if it arrives
    just before a worker blocks on its queue, and the parent waits forever. For the same reason the
    workers restore the default handler: SIGTERM still ends them if a job raises.
    """
    with multiprocessing.Pool(workers, initializer=_restore_sigterm) as pool:
        yield from pool.imap_unordered(function, jobs)
        pool.close()
        pool.join()


def _restore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
