"""Several jobs at a time on this machine, as an executor of `scripts.lib.sweeping`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from scripts.lib.grid import Chain
from scripts.lib.jobs import Job, Place
from scripts.lib.sweeping import Executor, Local, Result, attempt


def executor(place: Place, folder: Path, workers: int, env: Mapping[str, str]) -> Executor:
    """One job after another, or ``workers`` at a time; what they print goes to ``folder``/logs."""

    def log(job: Job) -> Path:
        name = re.sub(r"[^\w.]+", "_", str(job.folder.relative_to(place.output)))
        return folder / "logs" / f"{name}.log"

    return Local(place, log) if workers == 1 else Pool(place, log, workers, env)


class Pool:
    """``workers`` jobs at a time; each is a process, a thread here waits for it.

    Each gets one thread of arithmetic (OMP_NUM_THREADS): the jobs share the cores.
    """

    def __init__(
        self,
        place: Place,
        log: Callable[[Job], Path],
        workers: int,
        env: Mapping[str, str],
    ) -> None:
        self._place, self._log, self._workers = place, log, workers
        self._env = {**env, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
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
        """Start nothing more; what runs ends with this process (scripts/lib/orphan.py)."""
        self._threads.shutdown(wait=False, cancel_futures=True)
