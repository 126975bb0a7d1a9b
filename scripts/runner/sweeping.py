"""Runs chains of jobs on an executor: what is next, what failed, what waits for another runner.

The executor decides where a job runs (here, one after another, or on a Ray cluster); this module
decides when. A failed job ends its chain, not the others.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dassl.utils import UsageError
from scripts.runner.grid import Chain
from scripts.runner.job import Job, Workspace
from scripts.runner.lock import LockHeldError
from scripts.runner.run_job import JobFailedError, run

DONE, SKIPPED, FAILED, HELD = "done", "skipped", "failed", "held"
HELD_SECONDS = 10.0  # until a job that somebody else runs is looked at again


@dataclass(frozen=True)
class Result:
    """What became of one job.

    Attributes:
        status: DONE; SKIPPED, finished before; FAILED; HELD, another runner has it.
        seconds: that it ran.
        reason: one sentence, where it failed or is held.
        code: the exit code, where it failed.
        where: the machine.
    """

    job: Job
    status: str
    seconds: float = 0.0
    reason: str = ""
    where: str = ""
    code: int = 0


class Executor(Protocol):
    """Where jobs run."""

    @property
    def running(self) -> int:
        """How many jobs were started and not yet waited for."""
        ...

    def has_room(self, job: Job) -> bool:
        """Whether ``job`` may be started now."""
        ...

    def start(self, chain: Chain) -> None:
        """Start the chain's next job."""
        ...

    def wait(self, seconds: float) -> Iterable[tuple[Chain, Result]]:
        """The jobs that ended, after at most about ``seconds``."""
        ...

    def stop(self) -> None:
        """End what runs; nothing is finished that did not end well."""
        ...


def sweep(
    chains: Sequence[Chain], executor: Executor, report: Callable[[Result], None]
) -> list[Result]:
    """Run all chains. A job that several of them hold runs once: the others find it finished, or
    end, too, if it failed.

    Args:
        report: gets the result of each job as it ends, HELD ones left out.

    Returns:
        the results, in the order of their ends.
    """
    waiting = deque(chains)
    held: list[tuple[float, Chain]] = []
    busy: set[Path] = set()
    failed: set[Path] = set()
    results: list[Result] = []
    try:
        while waiting or held or executor.running:
            now = time.monotonic()
            waiting.extend(chain for due, chain in held if due <= now)
            held = [(due, chain) for due, chain in held if due > now]
            for _ in range(len(waiting)):
                chain = waiting.popleft()
                if chain.job.folder in failed:
                    continue
                if chain.job.folder not in busy and executor.has_room(chain.job):
                    busy.add(chain.job.folder)
                    executor.start(chain)
                else:
                    waiting.append(chain)
            for chain, result in executor.wait(1.0):
                busy.remove(chain.job.folder)
                if result.status == HELD:
                    held.append((time.monotonic() + HELD_SECONDS, chain))
                    continue
                results.append(result)
                report(result)
                if result.status == FAILED:
                    failed.add(chain.job.folder)
                    continue
                chain.position += 1
                if chain.position < len(chain.jobs):
                    waiting.appendleft(chain)
    except BaseException:
        executor.stop()
        raise
    return results


def attempt(
    job: Job,
    place: Workspace,
    log: Path,
    env: Mapping[str, str] | None = None,
    task: str | None = None,
) -> Result:
    """Run one job, its output appended to ``log``; whatever it says becomes a `Result`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    where = os.uname().nodename
    with open(log, "a", encoding="utf-8") as stream:

        def say(line: str) -> None:
            print(line, file=stream, flush=True)

        try:
            outcome = run(job, place, say=say, stream=stream, env=env, task=task)
        except LockHeldError as error:
            say(str(error))
            return Result(job, HELD, reason=str(error), where=where)
        except (UsageError, JobFailedError) as error:
            say(f"error: {error}")
            code = error.code if isinstance(error, JobFailedError) else 2
            return Result(job, FAILED, reason=str(error), where=where, code=code)
    return Result(job, SKIPPED if outcome.skipped else DONE, outcome.seconds, where=where)


class Local:
    """One job after another, in this process' place."""

    def __init__(self, place: Workspace, log: Callable[[Job], Path]) -> None:
        self._place, self._log = place, log
        self._ended: list[tuple[Chain, Result]] = []

    @property
    def running(self) -> int:
        return len(self._ended)

    def has_room(self, job: Job) -> bool:
        return not self._ended

    def start(self, chain: Chain) -> None:
        self._ended.append((chain, attempt(chain.job, self._place, self._log(chain.job))))

    def wait(self, seconds: float) -> Iterable[tuple[Chain, Result]]:
        ended, self._ended = self._ended, []
        if not ended:  # every job is held by somebody else
            time.sleep(seconds)
        return ended

    def stop(self) -> None:
        """Nothing to do: an interruption has ended the running job already."""
