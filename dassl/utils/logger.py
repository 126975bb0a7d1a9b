"""A log file that copies stdout."""

import os
import sys
import time
from pathlib import Path
from typing import Any, Self, TextIO

from . import distributed
from .file_set import named_errors
from .tools import PathLike, temporary_path


class Logger:
    """Stream that writes to the console and, line by line, to a file."""

    def __init__(self, fpath: PathLike | None = None) -> None:
        self.console: TextIO = sys.stdout
        self.file: TextIO | None = None
        self.path = Path(fpath) if fpath is not None else None
        self.target: Path | None = None  # where `keep_log` moves the file
        if self.path is not None:
            with named_errors(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.file = open(self.path, "w", encoding="utf-8", buffering=1)  # noqa: SIM115

    def __enter__(self) -> Self:
        sys.stdout = self
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, msg: str) -> int:
        written = self.console.write(msg)
        if self.file is not None and self.path is not None:
            try:
                with named_errors(self.target or self.path):
                    self.file.write(msg)
            except OSError:
                self.file = None  # an error is raised once, not for each later line
                raise
        return written

    def flush(self) -> None:
        self.console.flush()
        if self.file is not None:
            self.file.flush()

    def close(self) -> None:
        """Close the file and restore stdout."""
        if sys.stdout is self:
            sys.stdout = self.console
        file, self.file = self.file, None
        if file is not None and self.path is not None:
            with named_errors(self.target or self.path):
                file.close()

    def __getattr__(self, name: str) -> Any:
        """Return other attributes of a stream (isatty, encoding, fileno) from the console."""
        return getattr(self.console, name)


def setup_logger(output: PathLike | None = None) -> None:
    """Copy stdout to `output` (a .txt or .log file, or log.txt in a folder).

    An existing log is renamed to log.txt-<time of its last line>, so that log.txt belongs to the
    newest run; the original renames the new log instead. Only the main process prints.
    """
    begin_log(output)
    keep_log()


def begin_log(output: PathLike | None) -> None:
    """Copy stdout to a hidden file, which `keep_log` makes the log of `output`.

    So a command that is refused leaves the log of the previous run in place.
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
    with named_errors(path):
        sys.stdout = Logger(temporary_path(path))
    sys.stdout.target = path


def keep_log() -> None:
    """Give the hidden file of `begin_log` its name; rename an existing log."""
    log = sys.stdout
    if not isinstance(log, Logger) or log.path is None or log.target is None:
        return
    path = log.target
    with named_errors(path):
        if path.exists():
            path.rename(_unused_name(path))
        log.path.rename(path)
    log.path, log.target = path, None


def end_log() -> None:
    """Close the log. One that was not kept is removed, unless the folder has no other."""
    log = sys.stdout
    if not isinstance(log, Logger):
        return
    if log.path is not None and log.target is not None:
        if log.target.exists():
            log.path.unlink(missing_ok=True)
        else:
            keep_log()
    log.close()


def _unused_name(path: Path) -> Path:
    stamp = time.strftime("%Y-%m-%d-%H-%M-%S", time.localtime(os.path.getmtime(path)))
    name, count = f"{path.name}-{stamp}", 1
    while path.with_name(name).exists():
        count += 1
        name = f"{path.name}-{stamp}.{count}"
    return path.with_name(name)
