"""A mutational fuzzer that runs in process: a reader of files may raise its own errors only.

A test gives valid files as seeds and the function that reads one. The number of mutants is
FUZZ_MUTANTS (default 200; `make fuzz` sets more), and FUZZ_SEED changes the mutants.
"""

import os
import random
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MUTANTS = int(os.environ.get("FUZZ_MUTANTS", "200"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
MEMORY = 1 << 30  # bytes that reading one file may add
SECONDS = 20  # that reading one file may take
# Events of `sys.addaudithook` that mean something was executed or reached.
FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty",
    "subprocess.Popen", "socket.connect", "socket.bind", "ctypes.dlopen", "webbrowser.open",
)  # fmt: skip
TOKENS = (
    b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"-1", b"0", b"1e999", b"NaN", b"null", b"true",
    b"[]", b"{}", b'""', b"99999999999999999999", b"../../etc/passwd", b"cos\nsystem\n", b"\n",
    b"%s", b"\xed\xa0\x80", b"&a [*a, *a]", b"!!python/object:os.system",
)  # fmt: skip


class ForbiddenError(BaseException):
    """A mutant executed something; a BaseException, so that no reader can hide it."""


_watching = False
_forbidden: list[str] = []


def _audit(event: str, args: Any) -> None:
    if _watching and event in FORBIDDEN:
        _forbidden.append(f"{event} {args!r:.200}")
        raise ForbiddenError(event)


sys.addaudithook(_audit)


def mutants(seeds: Sequence[bytes], count: int, name: str) -> Iterator[bytes]:
    """Yield ``count`` mutants of the files ``seeds``; the same for the same name and SEED."""
    rng = random.Random(f"{SEED} {name}")
    for _ in range(count):
        content = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
            _mutate(content, seeds, rng)
        yield bytes(content)


def _mutate(content: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    start = rng.randrange(len(content) + 1)
    length = min(len(content) - start, int(2 ** rng.uniform(0, 10)))
    kind = rng.randrange(8)
    if kind == 0 and content:  # flip one bit
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == 1 and content:  # another byte
        content[rng.randrange(len(content))] = rng.randrange(256)
    elif kind == 2:  # a token inserted
        content[start:start] = rng.choice(TOKENS)
    elif kind == 3:  # a token in place of bytes
        token = rng.choice(TOKENS)
        content[start : start + len(token)] = token
    elif kind == 4:  # bytes removed
        del content[start : start + length]
    elif kind == 5:  # bytes repeated
        content[start:start] = content[start : start + length] * rng.randrange(1, 5)
    elif kind == 6:  # a piece of another file
        other = rng.choice(seeds)
        cut = rng.randrange(len(other) + 1)
        content[start : start + length] = other[cut : cut + length]
    else:  # truncated
        del content[start:]


def fuzz(
    read: Callable[[Path], object],
    seeds: Sequence[bytes],
    folder: Path,
    name: str,
    allowed: tuple[type[BaseException], ...],
    count: int = MUTANTS,
) -> dict[str, int]:
    """Read ``count`` mutants of the files ``seeds``, each written to ``folder``/``name``.

    Raises an AssertionError that names the kept mutant if reading raises anything but ``allowed``,
    executes something, or takes too much memory or time.

    Returns:
        How many mutants were read, and how many raised each error.
    """
    for number, seed in enumerate(seeds):  # a seed that is refused would test nothing
        (folder / name).write_bytes(seed)
        try:
            read(folder / name)
        except Exception as error:
            raise AssertionError(f"seed {number} of {name} is refused: {error}") from error
    found = {"read": 0}
    for number, content in enumerate(mutants(seeds, count, name)):
        path = folder / name
        path.write_bytes(content)
        outcome = "read"
        try:
            with bounded():
                read(path)
        except allowed as error:
            outcome = type(error).__name__
            text = str(error)
            assert "weights_only" not in text, f"mutant {number} of {name}: advice to load unsafely"
            assert 0 < len(text) < 2000, f"mutant {number} of {name}: {len(text)} characters"
        except BaseException as error:
            kept = folder / f"failed-{number}-{name}"
            kept.write_bytes(content)
            raise AssertionError(
                f"mutant {number} of {name} raised {type(error).__name__}: {error!s:.300}; "
                f"it is kept as {kept}"
            ) from error
        found[outcome] = found.get(outcome, 0) + 1
    print(f"{count} mutants of {name}: {found}")
    return found


@contextmanager
def bounded() -> Iterator[None]:
    """Bound memory and time within the context, and forbid executing anything."""
    global _watching
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    now = pages * resource.getpagesize()

    def too_slow(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, hard))
    _forbidden.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert not _forbidden, f"executed: {_forbidden}"
