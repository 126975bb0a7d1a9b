"""Run train.py many times in forked children that are killed or get errors at file operations.

Started as ``python -m tests.faults.server``; reads one JSON request per line and writes one JSON
reply per line. Forking after the imports makes a run 10 times as fast as a new process. The file
operations are those that Python's audit events report (open for writing, rename, remove, mkdir,
...), so none is listed by hand. An operation is interrupted before it takes effect and after all
earlier ones did.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

KILLED = 137
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")


class Faults:
    """An audit hook that counts the file operations below some folders."""

    def __init__(self, folders: list[str], at: int, errno: int, removed: str) -> None:
        self.folders, self.at, self.errno, self.removed = tuple(folders), at, errno, removed
        self.operations: list[str] = []

    def __call__(self, event: str, args: Any) -> None:
        if event == "open":
            path, mode, flags = args
            writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
            if not (writes or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR))):
                return
        elif event in CHANGES:
            path = args[0]
        else:
            return
        if isinstance(path, int) or path is None:
            return
        name = os.fsdecode(path)
        if not os.path.abspath(name).startswith(self.folders):
            return
        self.operations.append(f"{event} {name}")
        if len(self.operations) != self.at:
            return
        if self.removed:
            # Threads of the run could write into the folder while it is emptied.
            gone = f"{self.removed}.gone"
            os.rename(self.removed, gone)
            shutil.rmtree(gone)
            return
        if not self.errno:
            os._exit(KILLED)
        raise OSError(self.errno, os.strerror(self.errno), name)


def child(request: dict[str, Any], report: int) -> None:
    """Run one command, write what happened to the file descriptor ``report``, and exit."""
    import train

    limit(request)
    faults = Faults(
        request["folders"],
        request.get("at", 0),
        request.get("errno", 0),
        request.get("removed", ""),
    )
    sys.addaudithook(faults)
    code = 1
    try:
        code = train.main(request["argv"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os.write(report, json.dumps(faults.operations).encode())
        os._exit(code)


def limit(request: dict[str, Any]) -> None:
    """Take from this process what the request names: size of files, memory, rights of root."""
    if request.get("file_size") is not None:  # every write beyond it fails
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"], hard))
    if request.get("memory") is not None:  # bytes of address space beyond what is in use
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        used = pages * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (used + request["memory"], hard))
    os.environ.update(request.get("env", {}))
    if request.get("uid") is not None and os.getuid() == 0:
        os.setgroups([])
        os.setgid(request["uid"])
        os.setuid(request["uid"])


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Fork a child for a request; return its exit code, operations and output."""
    report, writing = os.pipe()
    console, printing = os.pipe()
    process = os.fork()
    if process == 0:
        os.dup2(printing, 1)
        os.dup2(printing, 2)
        child(request, writing)
    os.close(writing)
    os.close(printing)
    with os.fdopen(console, encoding="utf-8", errors="replace") as pipe:
        output = pipe.read()
    with os.fdopen(report) as pipe:  # it fits into the buffer of a pipe
        operations = json.loads(pipe.read() or "[]")
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "operations": operations, "output": output}


def main() -> None:
    import torch

    import datasets  # noqa: F401
    import train  # noqa: F401
    import trainers  # noqa: F401
    from dassl.engine import build_trainer  # noqa: F401

    torch.set_num_threads(1)  # threads do not survive a fork
    for line in sys.stdin:
        request = json.loads(line)
        if "shell" in request:  # in the server's mount namespace
            done = subprocess.run(request["shell"], capture_output=True, text=True)
            reply = {"code": done.returncode, "output": done.stderr}
        else:
            reply = run(request)
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
