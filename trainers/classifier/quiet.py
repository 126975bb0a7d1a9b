"""Keep the log of building a model off stdout."""

import contextlib
import io
import sys
from collections.abc import Iterator

__all__ = ["log_to_stderr"]


@contextlib.contextmanager
def log_to_stderr(verbose: bool) -> Iterator[None]:
    """Print to stderr within the block; unless ``verbose``, only warnings, when it succeeds."""
    if verbose:
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        yield
    for line in printed.getvalue().splitlines():
        if line.startswith("warning: "):
            print(line, file=sys.stderr)
