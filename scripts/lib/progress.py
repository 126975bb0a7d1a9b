"""Several jobs at a time, a line for each that is done, and how long the others will take."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import mean
from threading import Event, Lock

from scripts.lib.jobs import Job, Place
from scripts.lib.result import RESULT
from scripts.lib.runner import run
from scripts.lib.runs import read_run

WORKERS = 2
Kind = tuple[Hashable, bool]  # a row, and whether the job is a test


class Estimate:
    """The time that the jobs left will take, from that of the jobs like them.

    Args:
        kinds: of every job that is to run.
    """

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self.left = list(kinds)
        self.took: dict[Kind, list[float]] = {}

    def done(self, kind: Kind, seconds: float | None) -> None:
        """A job has ended; None if it was finished before."""
        self.left.remove(kind)
        if seconds is not None:
            self.took.setdefault(kind, []).append(seconds)

    def seconds(self) -> float | None:
        """Until all are done; None while no job has run or none is left.

        A row that has not had its turn is taken for an average one.
        """
        if not self.took or not self.left:
            return None
        return sum(map(self._expected, self.left)) / WORKERS

    def _expected(self, kind: Kind) -> float:
        alike = [took for known, took in self.took.items() if known[1] == kind[1]]
        return mean(self.took.get(kind) or chain.from_iterable(alike or self.took.values()))


class Progress:
    """Runs jobs and prints a line for each one that is done.

    Args:
        jobs: all that the chains hold.
        labels: folder of each job -> the row that it belongs to.
    """

    def __init__(self, place: Place, jobs: Sequence[Job], labels: Mapping[Path, str]) -> None:
        self.place = place
        self.labels = labels
        self.ended: dict[Path, Event] = {}
        self.count = 0
        self.estimate = Estimate([self._kind(job) for job in unique(jobs)])
        self.total = len(self.estimate.left)
        self.begin = time.monotonic()
        self.stop = Event()
        self.lock = Lock()  # one line at a time
        # One thread a job: two jobs share two cores.
        self.env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def run_chain(self, jobs: Sequence[Job]) -> None:
        """Run jobs one after another; one that another chain has begun is waited for."""
        for job in jobs:
            with self.lock:
                is_ours = job.folder not in self.ended
                ended = self.ended.setdefault(job.folder, Event())
            if not is_ours:
                ended.wait()
            if self.stop.is_set():
                return
            if is_ours:
                try:
                    self._run(job)
                except BaseException:
                    self.stop.set()
                    raise
                finally:
                    ended.set()

    def _run(self, job: Job) -> None:
        path = log_path(job, self.place)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as log:
            say = partial(print, file=log, flush=True)
            outcome = run(job, self.place, say=say, stream=log, env=self.env)
        self._report(job, None if outcome.skipped else outcome.seconds)

    def _report(self, job: Job, seconds: float | None) -> None:
        tested = read_run(job.folder / RESULT)
        with self.lock:
            self.count += 1
            self.estimate.done(self._kind(job), seconds)
            left = self.estimate.seconds()
            minutes, rest = divmod(int(time.monotonic() - self.begin), 60)
            print(
                f"[{self.count:2}/{self.total}] {minutes:02}:{rest:02}  {self.labels[job.folder]}, "
                f"{tested.classes} classes, seed {job.seed}: {tested.accuracy:.1f} % "
                f"({'finished before' if seconds is None else f'{seconds:.0f} s'})"
                + ("" if left is None else f", {_about(left)} left"),
                flush=True,
            )

    def _kind(self, job: Job) -> Kind:
        return self.labels[job.folder], job.eval_only


def unique(jobs: Iterable[Job]) -> list[Job]:
    """Each job once: chains may share one, as students share a teacher."""
    return list({job.folder: job for job in jobs}.values())


def _about(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"


def log_path(job: Job, place: Place) -> Path:
    """What a job prints goes to logs/, named after its folder."""
    name = re.sub(r"[^\w.]+", "_", str(job.folder.relative_to(place.output)))
    return place.output / "logs" / f"{name}.log"


def run_all(chains: Sequence[Sequence[Job]], progress: Progress) -> None:
    """Run the chains, `WORKERS` at a time, in their order; the first failure ends the rest."""
    with ThreadPoolExecutor(WORKERS) as pool:
        futures: list[Future[None]] = [pool.submit(progress.run_chain, jobs) for jobs in chains]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            progress.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
