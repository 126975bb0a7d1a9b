"""A child ends with its runner, also when the runner was killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.scripts.fake_project import ROOT

CHILD = """
import pathlib, sys, time
from scripts.runner.orphan import end_with_runner
end_with_runner()
pathlib.Path(sys.argv[1]).write_text("started")
time.sleep(60)
"""
RUNNER = """
import subprocess, sys
from scripts.runner.orphan import as_child
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], env=as_child(None))
print(child.pid, flush=True)
child.wait()
"""


def test_a_child_of_a_killed_runner_ends(tmp_path: Path) -> None:
    started = tmp_path / "started"
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER, CHILD, str(started)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert runner.stdout is not None
    child = int(runner.stdout.readline())
    limit = time.monotonic() + 60
    while not started.exists():
        assert time.monotonic() < limit
        time.sleep(0.05)
    runner.kill()
    runner.communicate()
    while _runs(child):
        assert time.monotonic() < limit
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    """Alive and no zombie (its new parent may be slow to wait for it)."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip()[:1] not in ("", "Z")
