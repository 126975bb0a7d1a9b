"""Drop what one thread prints while others go on printing."""

import io
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_lock = threading.Lock()
_silent: Counter[int] = Counter()  # thread -> how many of its `silent_thread` blocks are open


class _Stream(io.TextIOBase):
    """Standard output for all threads except the silent ones."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        if _silent[threading.get_ident()]:
            return len(text)
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()


@contextmanager
def silent_thread() -> Iterator[None]:
    """Drop what this thread prints to standard output.

    `contextlib.redirect_stdout` would change the standard output of the whole process: lines of
    other threads would be lost, and all lines after two blocks that end in the wrong order.
    """
    thread = threading.get_ident()
    with _lock:
        if not _silent:
            sys.stdout = _Stream(sys.stdout)
        _silent[thread] += 1
    try:
        yield
    finally:
        with _lock:
            _silent[thread] -= 1
            if not _silent[thread]:
                del _silent[thread]
            if not _silent and isinstance(sys.stdout, _Stream):
                sys.stdout = sys.stdout.stream
