"""One process at a time writes into a dataset's folder; the others wait for its files."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dassl.utils.file_set import acquire_now

# The names that dassl.utils.atomic_path gives to unfinished files.
_TEMPORARY = re.compile(r"\..+-\d+\.tmp(\.\w+)?")


@contextmanager
def writing(
    path: str | os.PathLike[str], doing: str, unless_read_only: bool = False
) -> Iterator[bool]:
    """Let one process at a time run the block; the system releases the lock when a process dies.

    Args:
        path: the lock file; its folder is created.
        doing: what the process does that has the lock, for the line of one that waits.
        unless_read_only: run the block without a lock where none can be created.

    Yields:
        Whether this process has the lock.
    """
    file = Path(path)
    # Users who share a folder must be able to lock the same file.
    lock = FileLock(file, mode=0o666)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            acquire_now(lock)
        except Timeout:
            print(f"Waiting for another process, which {doing} (it has locked {file})", flush=True)
            lock.acquire()
    except OSError:
        if not unless_read_only:
            raise
    try:
        yield lock.is_locked
    finally:
        lock.release()


def remove_temporaries(*folders: str | os.PathLike[str]) -> None:
    """Remove the unfinished files of dead processes; the caller has the lock of these folders."""
    for folder in filter(os.path.isdir, folders):
        for name in filter(_TEMPORARY.fullmatch, os.listdir(folder)):
            Path(folder, name).unlink(missing_ok=True)
