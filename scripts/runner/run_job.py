"""Run a job once: skip it if finished, resume it if unfinished, wait while another run has it.

seconds = run_job(job, workspace)  # None: it was finished before
"""

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from dassl.config.flat import differences
from dassl.engine.run_records import (
    FAILED,
    IN_USE,
    RUN,
    RUNNER,
    finish_date,
    is_finished,
    read_run_record,
)
from dassl.utils import UsageError
from dassl.utils.file_set import acquire_now
from scripts.runner.job import Job, Workspace
from scripts.runner.job_data import other_data
from scripts.runner.plan import checkpoint_name

GRACE = 10.0  # seconds from SIGTERM to SIGKILL
WAIT = 30.0  # seconds until a job is tried again if a run without a runner is using its folder
POLL = 1.0  # seconds
ERROR = "error: "  # before the sentence that tells why a command failed


class JobFailedError(Exception):
    """train.py ended with ``code``, for a ``reason`` if it printed one; the job is unfinished."""

    def __init__(self, job: Job, code: int, reason: str = "") -> None:
        log = job.folder / "log.txt"
        where = f"its log: {log}" if log.is_file() else "it wrote no log.txt: the reason is above"
        if reason:
            where = f"{reason} (its log: {log})" if log.is_file() else reason
        super().__init__(
            f"{job.name} failed with exit code {code}{': ' if reason else '; '}{where}"
        )
        self.code = code


class Children:
    """The processes that threads of this process run; none is started after `stop`."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, command: list[str], folder: Path, output: IO[str] | None, threads: int) -> int:
        """Run ``command`` and return its exit code as a shell does; arguments as of `run_job`."""
        env = {**os.environ, RUNNER: str(os.getpid())}
        if threads:
            env |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        error = None if output is None else subprocess.STDOUT
        with self._lock:
            if self.stopped.is_set():
                return 128 + signal.SIGTERM
            child = subprocess.Popen(command, cwd=folder, stdout=output, stderr=error, env=env)
            self._running.add(child)
        try:
            code = child.wait()
        except BaseException:
            self.stop()
            raise
        finally:
            self._running.discard(child)
        return code if code >= 0 else 128 - code

    def stop(self) -> None:
        """End all processes: SIGTERM, and SIGKILL if that does not end them in `GRACE` seconds."""
        with self._lock:
            self.stopped.set()
            children = list(self._running)
        for child in children:
            child.terminate()
        limit = time.monotonic() + GRACE
        for child in children:
            try:
                child.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()


def run_job(
    job: Job,
    workspace: Workspace,
    *,
    output: IO[str] | None = None,
    threads: int = 0,
    since: float = float("inf"),
    children: Children | None = None,
) -> float | None:
    """Run ``job`` and return its seconds, or None if it was finished before.

    Args:
        output: receives what train.py and this function print; None: stdout.
        threads: of arithmetic; 0: as many as the libraries choose.
        since: a time; a job that failed after it (in another chain) is not started again.
        children: can stop the job.

    Raises:
        UsageError: the folder contains a run with other settings, or the model to test is missing.
        JobFailedError: train.py failed.
    """
    children = children or Children()
    command = job.command(workspace)
    job.folder.mkdir(parents=True, exist_ok=True)
    with _runner_lock(job, output, children):
        if _is_finished(job, workspace, output):
            return None
        record = read_run_record(job.folder)
        if record.get("status") == FAILED and ended_after(job, since):
            raise JobFailedError(job, 1)
        _check_unfinished(job, workspace, record)
        print(f"run   {job.name}\n      {shlex.join(command)}", file=output, flush=True)
        while True:
            began, start = time.monotonic(), _size(output)
            code = children.run(command, workspace.root, output, threads)
            if code == 0:
                return time.monotonic() - began
            # A run without a runner may be using the folder.
            if code != IN_USE or children.stopped.wait(WAIT):
                raise JobFailedError(job, code, _last_error(output, start))
            if _is_finished(job, workspace, output):
                return None


def _size(output: IO[str] | None) -> int:
    return 0 if output is None else os.fstat(output.fileno()).st_size


def _last_error(output: IO[str] | None, start: int) -> str:
    """Return the last error line that a process wrote to ``output`` after ``start`` bytes, if any.

    Without a file it is on the screen already.
    """
    if output is None:
        return ""
    with open(output.name, "rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith(ERROR)]
    return errors[-1].removeprefix(ERROR) if errors else ""


@contextmanager
def _runner_lock(job: Job, output: IO[str] | None, children: Children) -> Iterator[None]:
    """Lock the job, so that other runners find it finished or failed; wait for another runner."""
    lock, waits = FileLock(job.folder / "runner.lock"), False
    while True:
        try:
            acquire_now(lock)
            break
        except Timeout:
            if not waits:
                print(f"wait  {job.name}: another runner has it", file=output, flush=True)
            waits = True
            if children.stopped.wait(POLL):
                raise JobFailedError(job, 128 + signal.SIGTERM) from None
    try:
        yield
    finally:
        lock.release()


def ended_after(job: Job, moment: float) -> bool:
    """Whether the newest run of ``job`` ended after ``moment`` (seconds since the epoch)."""
    record = job.folder / RUN
    return record.is_file() and record.stat().st_mtime > moment


def _is_finished(job: Job, workspace: Workspace, output: IO[str] | None) -> bool:
    if not is_finished(job.folder):
        return False
    record = read_run_record(job.folder)
    _refuse_other_settings(job, workspace, record, "contains a finished run with other settings")
    changed = other_data(job, workspace, record.get("data"))
    if changed:
        raise UsageError(
            f"{job.folder} contains a finished run on other data ({'; '.join(changed)}): restore "
            "the data, choose another OUTPUT, or delete that folder"
        )
    model = finish_date(job.model_folder) if job.model_folder is not None else None
    if model is not None and model != record["model"]:
        print(f"again {job.name}: its model was trained again ({model})", file=output, flush=True)
        return False
    skipped = f"skip  {job.name}: finished {record['finished']}, see {job.folder}"
    print(skipped, file=output, flush=True)
    return True


def _check_unfinished(job: Job, workspace: Workspace, record: Mapping[str, Any]) -> None:
    """Refuse to resume checkpoints of other settings, and to test a model that is not there.

    A model folder without a run record (CoOp's own, for example) only needs the checkpoint.
    """
    if record and any(job.folder.glob("*/model*.pth.tar*")):
        _refuse_other_settings(job, workspace, record, "contains checkpoints of other settings")
    if job.model_folder is not None:
        _check_model(job, job.model_folder, workspace)


def _check_model(job: Job, folder: Path, workspace: Workspace) -> None:
    training = read_run_record(folder)
    if training and not is_finished(folder):
        raise UsageError(
            f"{job.name} reads a model whose training is not finished: run the training in {folder}"
        )
    if training:
        ours = _of_model(job.settings(workspace))
        changed = differences(_of_model(training["settings"]), ours)
        if changed:
            raise UsageError(
                f"{job.name} reads a model that was trained with other settings "
                f"({'; '.join(changed)}), see {folder}: give the test the same ones"
            )
    name = checkpoint_name(job.epoch)
    if not any(folder.glob(f"*/{name}")):
        there = sorted({path.name for path in folder.glob("*/model*.pth.tar*")})
        raise UsageError(
            f"{job.name} reads {name}, but {folder} has {', '.join(there) or 'no checkpoint'}: "
            "run the training first"
        )


def _of_model(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a training and a test of its model share: no flags, no data."""
    own = ("--", "DATASET.", "TEST.SPLIT")
    return {k: v for k, v in settings.items() if not k.startswith(own)}


def _refuse_other_settings(
    job: Job, workspace: Workspace, record: Mapping[str, Any], what: str
) -> None:
    changed = differences(record["settings"], job.settings(workspace))
    if changed:
        raise UsageError(
            f"{job.folder} {what} ({'; '.join(changed)}): choose another OUTPUT, or delete that "
            "folder"
        )
