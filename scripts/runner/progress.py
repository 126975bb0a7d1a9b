"""Report the progress of jobs: a line for each that ends, and the running one with its epoch."""

import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from tqdm import tqdm

from dassl.engine.run_records import read_result
from dassl.utils.tools import is_terminal
from scripts.runner.job import DONE, FAILED, Job, Result

EPOCH = re.compile(r"epoch \[(\d+)/(\d+)\]")


class Progress:
    """Lines on stdout for finished jobs; on a terminal also a bar that names the running job.

    The remaining jobs are expected to take as long as finished ones of their kind (trainer and
    dataset, training or test), or of the nearest kind, with as many at a time as so far.
    A job that is in several chains counts once. ``log`` returns the file of a job's output.
    """

    def __init__(self, jobs: Sequence[Job], log: Callable[[Job], Path]) -> None:
        self.open = {job.folder: job for job in jobs}
        self.total, self._log = len(self.open), log
        self._took: dict[tuple[object, ...], list[float]] = {}
        self._worked = 0.0  # seconds of all finished jobs
        self._began, self._began_at = time.monotonic(), time.time()
        disable = not is_terminal(sys.stdout)
        self.bar = tqdm(total=self.total, unit="job", leave=False, disable=disable)

    def report(self, result: Result) -> bool:
        """Print the line of ``result``; return False if its job was reported before."""
        job = result.job
        if self.open.pop(job.folder, None) is None:
            return False
        if result.status == DONE:
            self._worked += result.seconds
            for kind in _kinds(job):
                self._took.setdefault(kind, []).append(result.seconds)
        accuracy = None if result.status == FAILED else read_result(job.folder).get("accuracy")
        took = f"{result.seconds:.0f} s" if result.status == DONE else result.status
        score = "" if accuracy is None else f", {accuracy:.1f} %"
        left = self.seconds_left()
        rest = "" if left is None else f"; about {clock(left)} left"
        number = f"[{self.total - len(self.open)}/{self.total}]"
        passed = clock(time.monotonic() - self._began)
        tqdm.write(f"{number} {passed}  {job.name}: {took}{score}{rest}", file=sys.stdout)
        if result.status == FAILED:
            tqdm.write(f"  {result.reason}", file=sys.stdout)
        sys.stdout.flush()
        self.bar.update()
        return True

    def refresh(self) -> None:
        """Show the running job on the bar: the one with the newest output."""
        if self.bar.disable:
            return
        logs = {job.folder: self._log(job) for job in self.open.values()}
        written = {f: log.stat().st_mtime for f, log in logs.items() if log.is_file()}
        newest = max(written, key=written.__getitem__, default=None)
        if newest is not None and written[newest] >= self._began_at:
            self.bar.set_postfix_str(f"{self.open[newest].name}{last_epoch(logs[newest])}")

    def seconds_left(self) -> float | None:
        """Return the expected time until all jobs are done; None if none has run or is left."""
        if not self.open or not self._took:
            return None
        everything = [seconds for took in self._took.values() for seconds in took]
        work = sum(
            fmean(next((self._took[k] for k in _kinds(job) if k in self._took), everything))
            for job in self.open.values()
        )
        at_a_time = self._worked / max(time.monotonic() - self._began, 1e-6)
        return work / max(1.0, at_a_time)

    def close(self) -> None:
        self.bar.close()


def last_epoch(log: Path) -> str:
    """Return ", epoch 3/50" for the newest epoch in a log of train.py; "" without one."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        found = EPOCH.findall(file.read().decode("utf-8", errors="replace"))
    return f", epoch {found[-1][0]}/{found[-1][1]}" if found else ""


def clock(seconds: float) -> str:
    """Return "1:02:03" for 3723."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _kinds(job: Job) -> list[tuple[object, ...]]:
    """Return what jobs of similar time have in common, most similar first."""
    return [
        (job.trainer, job.dataset, job.eval_only),
        (job.trainer, job.eval_only),
        (job.eval_only,),
    ]
