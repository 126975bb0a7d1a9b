"""A line for each job that ended: its number, the time so far, and how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import fmean

from scripts.report.load import read_run
from scripts.runner.job import Job
from scripts.runner.result import RESULT
from scripts.runner.sweeping import DONE, FAILED, Result


class Countdown:
    """Prints a line for each `Result`.

    The jobs that are left are expected to take as long as those of their kind (trainer and data
    set, training or test) took so far, or as those of the nearest kind.
    """

    def __init__(self, jobs: Sequence[Job], workers: int) -> None:
        self._left = {job.folder: job for job in jobs}
        self._total, self._workers = len(self._left), workers
        self._took: dict[tuple[object, ...], list[float]] = {}
        self._begin = time.monotonic()

    def report(self, result: Result) -> None:
        """Print the line of ``result``, unless another chain's job was the same."""
        if self._left.pop(result.job.folder, None) is None:
            return
        if result.status == DONE:
            for kind in _kinds(result.job):
                self._took.setdefault(kind, []).append(result.seconds)
        tested = result.job.folder / RESULT
        took = f"{result.seconds:.0f} s" if result.status == DONE else result.status
        score = ""
        if result.status != FAILED and tested.is_file():
            score = f", {read_run(tested).accuracy:.1f} %"
        number = self._total - len(self._left)
        passed, left = clock(time.monotonic() - self._begin), self.left()
        rest = "" if left is None else f"; about {clock(left)} left"
        print(
            f"[{number}/{self._total}] {passed}  {result.job.name}: {took}{score}{rest}", flush=True
        )
        if result.status == FAILED:
            print(f"  {result.reason}", flush=True)

    def left(self) -> float | None:
        """Seconds until all jobs are done; None while none has run or none is left."""
        if not self._left or not self._took:
            return None
        everything = [seconds for took in self._took.values() for seconds in took]
        return (
            sum(
                fmean(next((self._took[k] for k in _kinds(job) if k in self._took), everything))
                for job in self._left.values()
            )
            / self._workers
        )


def clock(seconds: float) -> str:
    """3723 -> "1:02:03"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _kinds(job: Job) -> list[tuple[object, ...]]:
    """What jobs take the same time, most alike first."""
    return [
        (job.trainer, job.dataset, job.eval_only),
        (job.trainer, job.eval_only),
        (job.eval_only,),
    ]
