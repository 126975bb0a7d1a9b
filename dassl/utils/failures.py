"""One sentence and one exit code for every expected failure of a command.

This is the only place that translates errors of the machine (full disk, no permission, no memory,
a killed worker). Elsewhere such errors are raised as they are, with the path in their ``filename``.
"""

import errno
import os
import re
import sys
import threading
from collections.abc import Callable

from .errors import UsageError

USAGE = 2  # exit code: a wrong option, setting or file
MACHINE = 74  # exit code: the machine failed (disk, permissions, memory); sysexits' EX_IOERR
INTERRUPTED = 130  # exit code after Ctrl-C, as in a shell

_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or ask for a larger quota",
    errno.EACCES: "change its permissions, or choose another folder",
    errno.EPERM: "change its permissions, or choose another folder",
    errno.EROFS: "choose a folder that can be written to",
    errno.ENOENT: "was the folder removed during the run? restore it, or choose another one",
    errno.ENOTDIR: "a file is where a folder belongs: remove it, or choose another folder",
    errno.EEXIST: "a file is where a folder belongs: remove it, or choose another folder",
    errno.EISDIR: "a folder is where a file belongs: remove it",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or lower DATALOADER.NUM_WORKERS",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ENOMEM: "free some memory",
    errno.EIO: "check the disk",
    errno.ESTALE: "check the network file system",
}
_MEMORY = re.compile(
    r"not enough memory|can't allocate memory|out of memory|bad_alloc|bad allocation|"
    r"[Cc]annot allocate memory|alloc_cpu|can't start new thread|could not create a primitive|"
    r"failed to map segment"
)
_WORKER = re.compile(r"DataLoader worker.*(killed by signal|exited unexpectedly)", re.DOTALL)


def describe_failure(
    error: BaseException, usage: tuple[type[Exception], ...] = ()
) -> tuple[str, int] | None:
    """Return the sentence and the exit code of an expected error; None for a bug.

    ``usage`` are exceptions that count as usage errors, besides UsageError.
    """
    if isinstance(error, (UsageError, *usage)):
        return _first_sentence(error), USAGE
    if isinstance(error, OSError):
        return _describe_os_error(error), MACHINE
    text = str(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | ImportError) and _MEMORY.search(text)
    ):
        return (
            "there is not enough memory: lower DATALOADER.TRAIN_X.BATCH_SIZE, "
            "DATALOADER.TEST.BATCH_SIZE or DATALOADER.NUM_WORKERS, set the trainer's MAX_PROMPTS "
            f"or TRAINER.TEXT_CHUNK (docs/scale.md), or use a larger machine ({_line(text)})"
        ), MACHINE
    if isinstance(error, RuntimeError) and _WORKER.search(text):
        return (
            "a process that loads images was killed, probably because memory ran out: lower "
            "DATALOADER.NUM_WORKERS (0 loads images in the main process); the same command "
            f"continues ({_line(text)})"
        ), MACHINE
    return None


def run_program(
    command: Callable[[], int],
    interrupted: str = "the same command continues",
    usage: tuple[type[Exception], ...] = (),
) -> int:
    """Run a command; print an expected failure as one sentence and return its exit code.

    Args:
        interrupted: what is printed after Ctrl-C, behind "interrupted: ".
        usage: as in `describe_failure`.
    """
    threading.excepthook = _print_unexpected
    try:
        return command()
    except KeyboardInterrupt:
        print(f"interrupted: {interrupted}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        failure = describe_failure(error, usage)
        if failure is None:
            raise
        print(f"error: {failure[0]}", file=sys.stderr)
        return failure[1]


def _print_unexpected(args: threading.ExceptHookArgs) -> None:
    """Print the error of a thread, unless it is one that its owner raises again.

    The writer thread of TensorBoard fails with a full disk, for example, and the next call of the
    writer raises the same error in the main thread.
    """
    if args.exc_value is None or describe_failure(args.exc_value) is None:
        threading.__excepthook__(args)


def _first_sentence(error: BaseException) -> str:
    """Return the message without the traceback that a data loader's worker puts before it."""
    text = str(error)
    if "DataLoader worker process" not in text:
        return text
    return text.strip().splitlines()[-1].split("Error: ", 1)[-1]


def _describe_os_error(error: OSError) -> str:
    reason = error.strerror or _first_sentence(error) or type(error).__name__
    where = error.filename2 or error.filename
    # TensorBoard gives bytes.
    name = os.fsdecode(where) if isinstance(where, str | bytes | os.PathLike) else where
    path = f"{str(name)!r} cannot be used" if where else "a file or folder cannot be used"
    remedy = _REMEDIES.get(error.errno or 0, "check the path and the disk")
    return f"{path} ({_line(reason).lower()}): {remedy}; then run the same command again"


def _line(text: str) -> str:
    """Return the first line of a message, shortened."""
    line = (text.strip().splitlines() or ["no details"])[0]
    return line if len(line) <= 160 else f"{line[:157]}..."
