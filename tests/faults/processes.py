"""Start programs with their own process group, find their processes, and kill them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start(command: Sequence[str], env: dict[str, str], output: Path) -> subprocess.Popen[bytes]:
    """Start ``python COMMAND`` in the repository's root, which appends its output to a file."""
    with open(output, "ab") as file:
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **env},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def descendants(process: int) -> list[int]:
    """Return a process and everything that it has started, directly or not (Linux)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "stat").read_text()
        except OSError:  # it has ended meanwhile
            continue
        parent = int(status.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(int(entry.name))
    found = [process]
    for known in found:
        found += children.get(known, [])
    return found


def command_line(process: int) -> str:
    """Return the command of a process; "" if it has ended."""
    try:
        text = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return ""
    return text.replace(b"\0", b" ").decode(errors="replace")


def kill(processes: Sequence[int]) -> None:
    """Send SIGKILL to processes, some of which may have ended."""
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def wait_until_gone(processes: Sequence[int], seconds: float) -> list[int]:
    """Wait until processes have ended; return those that are still running then."""
    limit = time.monotonic() + seconds
    while running := [process for process in processes if command_line(process)]:
        if time.monotonic() > limit:
            break
        time.sleep(0.05)
    return running
