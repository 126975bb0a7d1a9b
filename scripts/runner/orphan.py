"""A train.py that a script started ends when the script is gone, however it went.

Otherwise a scheduler that starts a job again, because its node or its runner died, would have two
processes write into one folder.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping

RUNNER = "TEXTREFINER_RUNNER"  # the process id of the runner, in the environment of its children
PERIOD = 2.0  # seconds between two looks


def as_child(env: Mapping[str, str] | None) -> dict[str, str]:
    """``env`` (None: this process' own) for a child that calls `end_with_runner`."""
    return {**(os.environ if env is None else env), RUNNER: str(os.getpid())}


def end_with_runner() -> None:
    """If a runner started this process, end it (SIGTERM) once the runner is gone.

    A grandchild, such as a rank that torchrun started, is left to its own parent.
    """
    runner = os.environ.get(RUNNER)
    if runner is not None and os.getppid() == int(runner):
        threading.Thread(target=_watch, args=(int(runner),), daemon=True).start()


def _watch(runner: int) -> None:
    while os.getppid() == runner:
        time.sleep(PERIOD)
    os.kill(os.getpid(), signal.SIGTERM)
