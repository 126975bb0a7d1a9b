"""Write several files as one: all of them appear, or none, whenever the process is killed.

Every file is first written beside its target under a hidden name. A journal that lists the renames
is the commit point: an interrupted commit is completed by `finish_file_set`, and files that were
never committed are removed by `remove_leftovers`. Both need the lock of the folder.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

from filelock import BaseFileLock, Timeout

from .errors import UsageError
from .schema import read_checked
from .tools import PathLike, temporary_path

JOURNAL = ".commit.json"  # {"renames": [[hidden, target], ...]}, relative to its folder
_TEMPORARY = re.compile(r"\..+-\d+\.tmp(\..+)?")  # names of `temporary_path`


class FileSet:
    """Context manager: `write` files below ``folder``; leaving the block commits them together.

    An exception in the block discards all of them.
    """

    def __init__(self, folder: PathLike) -> None:
        self.folder = Path(folder)
        self._hidden: dict[Path, Path] = {}  # target -> hidden file

    def write(self, path: PathLike, content: bytes) -> None:
        """Write the new content of ``path``, a file below the folder."""
        target = Path(path)
        hidden = self._hidden[target] = temporary_path(target)
        with named_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_and_sync(hidden, content)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._commit()
        else:
            self._discard()

    def _commit(self) -> None:
        journal = self.folder / JOURNAL
        renames = [
            [os.path.relpath(path, self.folder) for path in (hidden, target)]
            for target, hidden in self._hidden.items()
        ]
        hidden = temporary_path(journal)
        try:
            with named_errors(journal):
                _write_and_sync(hidden, json.dumps({"renames": renames}).encode())
                os.replace(hidden, journal)  # the commit point
        except OSError:
            hidden.unlink(missing_ok=True)
            self._discard()
            raise
        finish_file_set(self.folder)

    def _discard(self) -> None:
        for hidden in self._hidden.values():
            if hidden.exists():  # not where a file is in the place of its folder
                hidden.unlink()


def finish_file_set(folder: PathLike) -> bool:
    """Complete a commit that was interrupted in ``folder``; return whether there was one.

    Raises:
        UsageError: the journal was not written by a `FileSet`.
    """
    journal = Path(folder) / JOURNAL
    if not journal.exists():
        return False
    for hidden, target in _renames(journal):
        with named_errors(target):
            if hidden.exists():  # else it was renamed before the interruption
                os.replace(hidden, target)
    journal.unlink()
    return True


class _Journal(TypedDict):
    renames: list[tuple[str, str]]


def _renames(journal: Path) -> list[tuple[Path, Path]]:
    """Return (hidden, target) of the renames; raise UsageError for others than a FileSet makes."""
    remedy = "delete it, and the run continues from the newest complete checkpoints"
    folder, inside = journal.parent, journal.parent.resolve()
    pairs = []
    for names in read_checked(journal, _Journal, remedy)["renames"]:
        if any("\0" in name or len(os.path.basename(name)) > 255 for name in names):
            raise UsageError(f"{str(journal)!r} has a name that no file can have: {remedy}")
        hidden, target = (folder / name for name in names)
        place = hidden.parent.resolve()
        if (
            not _TEMPORARY.fullmatch(hidden.name)
            or target.parent.resolve() != place
            or not place.is_relative_to(inside)
        ):
            raise UsageError(f"{str(journal)!r} is not a journal of this program: {remedy}")
        pairs.append((hidden, target))
    return pairs


def remove_leftovers(folder: PathLike) -> None:
    """Remove hidden files that killed processes left in ``folder`` and its direct subfolders.

    The caller has the folder's lock, so no living process is writing there.
    """
    root = Path(folder)
    for pattern in (".*.tmp*", "*/.*.tmp*"):
        for path in root.glob(pattern):
            if _TEMPORARY.fullmatch(path.name) and path.is_file():
                path.unlink(missing_ok=True)


def acquire_now(lock: BaseFileLock) -> None:
    """Acquire a file lock without waiting.

    Raises:
        Timeout: another process has it.
        OSError: the lock file cannot be written. filelock itself takes some folders that cannot
            contain files for locked ones, and would wait for ever.
    """
    with named_errors(lock.lock_file):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            open(lock.lock_file, "a").close()  # it exists if another process has it
            raise


@contextmanager
def named_errors(path: PathLike) -> Iterator[None]:
    """Name ``path`` in an OSError, which knows no path or only a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write_and_sync(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # renames must not reach the disk before the content
