"""Run a job once: skip it when finished, go on when unfinished, never take a failure for done.

outcome = run(job, place)  # Outcome(skipped=False, seconds=312.4)
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dassl.config.flat import differences
from dassl.utils import UsageError
from scripts.runner import record
from scripts.runner.job import Job, Workspace
from scripts.runner.lock import JobLock, job_lock
from scripts.runner.orphan import as_child
from scripts.runner.resources import Estimates

LOCK = "running.lock"
_children: set[subprocess.Popen[bytes]] = set()  # that run now, for all threads


@dataclass(frozen=True)
class Outcome:
    """What became of a job that did not fail."""

    skipped: bool
    seconds: float


class JobFailedError(Exception):
    """train.py ended with ``code``; the job stays unfinished."""

    def __init__(self, job: Job, code: int, log: Path) -> None:
        where = f"its log: {log}" if log.is_file() else "it wrote no log.txt: the reason is above"
        super().__init__(f"{job.name} failed with exit code {code}; {where}")
        self.job, self.code = job, code


def run(
    job: Job,
    place: Workspace,
    *,
    say: Callable[[str], None] = print,
    stream: IO[str] | None = None,
    env: Mapping[str, str] | None = None,
    estimates: Estimates | None = None,
    task: str | None = None,
) -> Outcome:
    """Run ``job`` unless it is finished.

    Args:
        say: gets one line when a job is skipped or started.
        stream: takes the child's stdout and stderr; None passes them through.
        env: the child's environment; None for this process' own.
        estimates: if given, a started job's line says what it will take.
        task: of a scheduler that may run it again, see `job_lock`.

    Raises:
        UsageError: the folder belongs to another command, the model to test is missing, or
            somebody else runs the job.
        JobFailedError: train.py failed.
    """
    if _is_finished(job, place, say):
        return Outcome(skipped=True, seconds=0.0)
    job.folder.mkdir(parents=True, exist_ok=True)
    with job_lock(job.folder / LOCK, say, task) as lock:
        if _is_finished(job, place, say):  # by another runner, since the look above
            return Outcome(skipped=True, seconds=0.0)
        _check_unfinished(job, place)
        started = record.write_started(job, place)
        say(f"run   {job.name}\n      {started['command']}")
        if estimates is not None:
            say(f"      {estimates.line(job)}")
        begin = time.monotonic()
        code = _execute(job.command(place), place.root, lock, stream, env)
        if code != 0:
            raise JobFailedError(job, code, job.folder / "log.txt")
        seconds = time.monotonic() - begin
        record.write_finished(job, started, seconds)
    return Outcome(skipped=False, seconds=seconds)


def _is_finished(job: Job, place: Workspace, say: Callable[[str], None]) -> bool:
    finished = record.read(job.folder, record.FINISHED)
    if finished is None:
        return False
    _refuse_other_command(job, place, finished, "was finished by another command")
    model = record.model_date(job)
    if model is not None and model != finished["model"]:
        say(f"again {job.name}: its model was trained again ({model})")
        return False
    say(f"skip  {job.name}: finished {finished['finished']}, see {job.folder}")
    return True


def _check_unfinished(job: Job, place: Workspace) -> None:
    """Refuse to resume another command's checkpoints, and to test a model that is not there.

    A model folder without a record of ours (CoOp's own, say) only has to hold the checkpoint.
    """
    started = record.read(job.folder, record.STARTED)
    if started is not None and any(job.folder.glob("*/model*.pth.tar*")):
        _refuse_other_command(job, place, started, "holds the checkpoints of another command")
    if job.model_folder is not None:
        _check_model(job, job.model_folder, place)


def _check_model(job: Job, folder: Path, place: Workspace) -> None:
    started = record.read(folder, record.STARTED)
    if started is not None and record.read(folder, record.FINISHED) is None:
        raise UsageError(
            f"{job.name} reads a model whose training is not finished: run the training in {folder}"
        )
    if started is not None:
        changed = differences(_of_model(started["settings"]), _of_model(job.settings(place)))
        if changed:
            raise UsageError(
                f"{job.name} reads a model that was trained with other settings "
                f"({'; '.join(changed)}), see {folder}: give the test the same ones"
            )
    name = "model-best.pth.tar" if job.epoch is None else f"model.pth.tar-{job.epoch}"
    if not any(folder.glob(f"*/{name}")):
        there = sorted({path.name for path in folder.glob("*/model*.pth.tar*")})
        raise UsageError(
            f"{job.name} reads {name}, but {folder} has {', '.join(there) or 'no checkpoint'}: "
            "run the training first"
        )


def _of_model(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a training and a test of its model have in common: not flags, not data."""
    own = ("--", "DATASET.", "TEST.SPLIT")
    return {k: v for k, v in settings.items() if not k.startswith(own)}


def _refuse_other_command(job: Job, place: Workspace, old: Mapping[str, Any], how: str) -> None:
    changed = differences(old["settings"], job.settings(place))
    if changed:
        raise UsageError(
            f"{job.folder} {how} ({'; '.join(changed)}): "
            "choose another OUTPUT, or delete that folder"
        )


def _execute(
    command: list[str],
    root: Path,
    lock: JobLock,
    stream: IO[str] | None,
    env: Mapping[str, str] | None,
) -> int:
    """Return the exit code of ``command``, as a shell gives it; an interruption ends the child."""
    output = subprocess.STDOUT if stream is not None else None
    child = subprocess.Popen(command, cwd=root, stdout=stream, stderr=output, env=as_child(env))
    _children.add(child)
    try:
        lock.note_child(child.pid)
        code = child.wait()
    except BaseException:
        child.send_signal(signal.SIGTERM)
        child.wait()
        raise
    finally:
        _children.discard(child)
    return code if code >= 0 else 128 - code


def end_children() -> None:
    """Ask every job that a thread of this process runs to end: its `run` then fails."""
    for child in list(_children):
        child.send_signal(signal.SIGTERM)
