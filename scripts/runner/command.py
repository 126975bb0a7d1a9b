"""The frame of every command that runs jobs: its signals, its exit code, its last words."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from dassl.utils import UsageError
from scripts.runner.run_job import JobFailedError


def run_command(command: Callable[[], int]) -> int:
    """Run ``command``; returns its exit code, or the one that belongs to how it ended.

    A usage error is one sentence and 2, a failed job one sentence and train.py's code, Ctrl-C 130.
    SIGTERM leaves as an exit does, so that running jobs end, too.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return command()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except JobFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        return 128 + signal.SIGINT
