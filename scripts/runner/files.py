"""Write files and folders that the user named; what cannot be written is a UsageError."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dassl.utils import UsageError, atomic_path
from dassl.utils.file_set import named_errors


def make_folder(path: Path, name: str) -> None:
    """Make the folder ``path`` that the user gave as ``name``.

    Raises:
        UsageError: it is a file, or below one.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(
            f"{name}={path} cannot be a folder: {error.strerror}; choose another one"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` at the end, as `atomic_path` does."""
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder, give the name of a file")
    try:
        with atomic_path(path) as temporary:
            yield temporary
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


class LogFile(io.TextIOWrapper):
    """A text file to append to, with its path in the error of a full disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(open(path, "ab"), encoding="utf-8")  # noqa: SIM115
        self.path = path

    def flush(self) -> None:
        """Write what is buffered; raise OSError that names the file."""
        with named_errors(self.path):
            super().flush()

    def close(self) -> None:
        """Write what is buffered and close the file; raise OSError that names it."""
        with named_errors(self.path):
            super().close()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
