"""Write files and folders that the user named; what cannot be written is a UsageError."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dassl.utils import UsageError, atomic_path


def make_folder(path: Path, name: str) -> None:
    """Make the folder ``path`` that the user gave as ``name``."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{name}={path} cannot be a folder: {error.strerror}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` at the end, as `atomic_path` does."""
    try:
        with atomic_path(path) as temporary:
            yield temporary
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
