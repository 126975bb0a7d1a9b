"""A log file that copies stdout."""

import os
import sys
import time
from pathlib import Path
from typing import Any, Self, TextIO

from . import distributed
from .errors import UsageError
from .tools import PathLike


class Logger:
    """Stream that writes to the console and, line by line, to a file."""

    def __init__(self, fpath: PathLike | None = None) -> None:
        self.console: TextIO = sys.stdout
        self.file: TextIO | None = None
        if fpath is not None:
            Path(fpath).parent.mkdir(parents=True, exist_ok=True)
            self.file = open(fpath, "w", encoding="utf-8", buffering=1)  # noqa: SIM115

    def __enter__(self) -> Self:
        sys.stdout = self
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, msg: str) -> int:
        if self.file is not None:
            self.file.write(msg)
        return self.console.write(msg)

    def flush(self) -> None:
        self.console.flush()
        if self.file is not None:
            self.file.flush()

    def close(self) -> None:
        """Close the file and restore stdout."""
        if sys.stdout is self:
            sys.stdout = self.console
        if self.file is not None:
            self.file.close()
            self.file = None

    def __getattr__(self, name: str) -> Any:
        """Return other attributes of a stream (isatty, encoding, fileno) from the console."""
        return getattr(self.console, name)


def setup_logger(output: PathLike | None = None) -> None:
    """Copy stdout to `output` (a .txt or .log file, or log.txt in a folder).

    An existing log is renamed to log.txt-<time of its last line>, so that log.txt belongs to the
    newest run; the original renames the new log instead. Only the main process prints.

    Raises:
        UsageError: the file cannot be written.
    """
    if not distributed.is_main():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        return
    if output is None:
        return
    path = Path(output)
    if path.suffix not in (".txt", ".log"):
        path = path / "log.txt"
    if isinstance(sys.stdout, Logger):
        sys.stdout.close()
    try:
        if path.exists():
            path.rename(_unused_name(path))
        sys.stdout = Logger(path)
    except OSError as error:
        raise UsageError(
            f"cannot write the log {str(path)!r} ({error.strerror}): set OUTPUT_DIR "
            "(--output-dir) to a writable folder"
        ) from error


def _unused_name(path: Path) -> Path:
    stamp = time.strftime("%Y-%m-%d-%H-%M-%S", time.localtime(os.path.getmtime(path)))
    name, count = f"{path.name}-{stamp}", 1
    while path.with_name(name).exists():
        count += 1
        name = f"{path.name}-{stamp}.{count}"
    return path.with_name(name)
