"""Several jobs at a time on this machine, as an executor of `scripts.runner.sweeping`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from scripts.runner.countdown import Countdown
from scripts.runner.files import make_folder
from scripts.runner.grid import Chain
from scripts.runner.job import Job, Workspace
from scripts.runner.run_job import end_children
from scripts.runner.sweeping import Executor, Local, Result, attempt, sweep


def run_chains(
    chains: Sequence[Chain],
    place: Workspace,
    folder: Path,
    workers: int,
    watch: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Run the chains on this machine, with a line for each job that ends.

    Args:
        folder: what the jobs print goes to its logs/.
        workers: jobs at a time.
        watch: gets each result after its line; what it raises ends the rest.

    Raises:
        UsageError: DATA or OUTPUT cannot be made.
    """
    make_folder(place.data, "DATA")
    make_folder(folder, "OUTPUT")
    log = log_in(folder, place)
    executor: Executor = Local(place, log)
    if workers > 1:
        executor = Pool(place, log, workers)
    countdown = Countdown([job for chain in chains for job in chain.jobs], workers)

    def report(result: Result) -> None:
        countdown.report(result)
        watch(result)

    return sweep(chains, executor, report)


def log_in(folder: Path, place: Workspace) -> Callable[[Job], Path]:
    """The file below ``folder``/logs that gets what a job prints, named after the job's folder."""

    def log(job: Job) -> Path:
        name = re.sub(r"[^\w.]+", "_", str(job.folder.relative_to(place.output)))
        return folder / "logs" / f"{name}.log"

    return log


class Pool:
    """``workers`` jobs at a time; each is a process, a thread here waits for it.

    Each gets one thread of arithmetic (OMP_NUM_THREADS): the jobs share the cores.
    """

    def __init__(self, place: Workspace, log: Callable[[Job], Path], workers: int) -> None:
        self._place, self._log, self._workers = place, log, workers
        self._env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._threads = ThreadPoolExecutor(workers)
        self._running: dict[Future[Result], Chain] = {}

    @property
    def running(self) -> int:
        return len(self._running)

    def has_room(self, job: Job) -> bool:
        return len(self._running) < self._workers

    def start(self, chain: Chain) -> None:
        job = chain.job
        future = self._threads.submit(attempt, job, self._place, self._log(job), self._env)
        self._running[future] = chain

    def wait(self, seconds: float) -> Iterable[tuple[Chain, Result]]:
        ended, _ = wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED)
        return [(self._running.pop(future), future.result()) for future in ended]

    def stop(self) -> None:
        """Start nothing more, and end what runs: Python would wait for its threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in self._running):
            end_children()
            wait(self._running, timeout=1.0)
