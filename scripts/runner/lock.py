"""A lock file that keeps two runners from running the same job at once.

with job_lock(folder / "running.lock", say=print) as lock:
    child = subprocess.Popen(...)
    lock.note_child(child.pid)
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dassl.utils import UsageError, write_json


class LockHeldError(UsageError):
    """Somebody else is running the job."""


class JobLock:
    """The holder's view of its lock file, which names the runner, its child and their machine.

    Args:
        path: of the file.
        task: of a scheduler, which runs a task again only after its last attempt has died.
    """

    def __init__(self, path: Path, task: str | None = None) -> None:
        self.path = path
        self.owner: dict[str, Any] = {
            "pid": os.getpid(),
            "child": None,
            "host": socket.gethostname(),
            "task": task,
        }

    def take(self) -> bool:
        """Create the file; False if it is there already. O_EXCL holds across machines as well."""
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(self.owner, file)
        return True

    def note_child(self, pid: int) -> None:
        """Name the process that does the work: it may outlive a runner that was killed."""
        self.owner["child"] = pid
        write_json(self.owner, self.path)

    def release(self) -> None:
        self.path.unlink(missing_ok=True)


@contextmanager
def job_lock(path: Path, say: Callable[[str], None], task: str | None = None) -> Iterator[JobLock]:
    """Hold the lock file ``path`` while the block runs; take over one whose processes are dead.

    Args:
        say: gets a line when a lock is taken over.
        task: see `JobLock`; the lock of an earlier attempt of the same task is taken over, too,
            and what that attempt left running on this machine is ended.

    Raises:
        LockHeldError: the job is running, here or (as far as can be told) on another machine.
    """
    lock = JobLock(path, task)
    with _alone(path.parent):
        if not lock.take():
            _remove_stale(path, say, task)
            lock.take()
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep this machine's other runners out, so that a stale lock has one heir."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: Path, say: Callable[[str], None], task: str | None) -> None:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        pid, child, host = owner["pid"], owner["child"], owner["host"]
    except (OSError, ValueError, KeyError) as error:
        raise LockHeldError(
            f"cannot read the lock {path} ({error}); if nobody runs this job, delete the file"
        ) from error
    here = host == socket.gethostname()
    if task is not None and owner.get("task") == task:
        if here and child is not None:
            _end(child)
        say(f"take over the lock of an attempt that died on {host}: {path}")
        path.unlink()
        return
    if not here:
        raise LockHeldError(f"process {pid} on {host} runs this job; if it does not, delete {path}")
    for process in (pid, child):
        if process is not None and _is_alive(process):
            raise LockHeldError(f"process {process} runs this job; if it does not, delete {path}")
    say(f"take over the lock of process {pid}, which is gone: {path}")
    path.unlink()


def _end(pid: int, seconds: float = 30.0) -> None:
    """Ask ``pid`` to end, and insist after ``seconds``; it is no child of this process."""
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, seconds)):
        if _is_alive(pid):
            os.kill(pid, number)
        limit = time.monotonic() + patience
        while _is_alive(pid) and time.monotonic() < limit:
            time.sleep(0.1)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, but there
        return True
    return True
