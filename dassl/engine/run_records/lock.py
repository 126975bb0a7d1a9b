"""One run at a time in an output folder."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ...utils.errors import UsageError
from ...utils.file_set import acquire_now, finish_file_set, named_errors, remove_leftovers
from ...utils.tools import PathLike

LOCK = "running.lock"
IN_USE = 75  # exit code of a run in a folder that is in use, sysexits' EX_TEMPFAIL
RUNNER = "TEXTREFINER_RUNNER"  # process id of the runner, in the environment of its train.py


class FolderInUseError(UsageError):
    """Another run is writing into the output folder."""


@contextmanager
def folder_lock(folder: PathLike) -> Iterator[None]:
    """Lock an output folder for the duration of the block.

    The lock ends with its process, however that ends. What a killed process left is completed or
    removed first.

    Raises:
        FolderInUseError: another process has locked the folder.
        OSError: the folder cannot be written to.
    """
    path = Path(folder) / LOCK
    lock = FileLock(path)
    try:
        with named_errors(folder):
            Path(folder).mkdir(parents=True, exist_ok=True)
        acquire_now(lock)
    except Timeout:
        raise FolderInUseError(
            f"another run is using {str(folder)!r}: wait until it ends, or choose another "
            "--output-dir"
        ) from None
    try:
        finish_file_set(folder)
        remove_leftovers(folder)
        yield
    finally:
        lock.release()


def end_with_runner() -> None:
    """Have Linux end this process (SIGTERM) when the runner that started it ends, even by SIGKILL.

    Without this, a job that a scheduler starts again would wait for the lock of its first attempt.
    """
    runner = os.environ.pop(RUNNER, "")
    if runner == str(os.getppid()) and sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGTERM))
