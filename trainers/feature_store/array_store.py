"""Store arrays on disk by the facts that they depend on.

An entry is a safetensors file named by a hash of its facts. Its header contains the facts and a
sha256 of each array. It is written to a temporary file and renamed, so it is never incomplete. A
file lock lets one process compute an entry while the others wait for it. Entries may be deleted at
any time between runs.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ..settings import SettingsError

__all__ = ["ArrayStore", "tensor_bytes"]

Facts = Mapping[str, str | int]
Rows = Mapping[str, Tensor]

CODES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}
ALIGNMENT = 64  # bytes; of the first array within the file


class DamagedError(Exception):
    """An entry differs from what was written; the message names the difference."""


class ArrayStore:
    """A folder of entries, created with the first one; the setting ``key`` names it."""

    def __init__(self, folder: str, key: str) -> None:
        self.folder = Path(os.path.expanduser(folder))
        self.key = key

    def path(self, facts: Facts) -> Path:
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{facts['what']}-{digest[:32]}.safetensors"

    def get(
        self, facts: Facts, count: int, compute: Callable[[], Iterable[Rows]]
    ) -> dict[str, Tensor]:
        """Return the arrays of an entry, each of ``count`` rows; compute and store it if missing.

        ``compute`` yields the rows in order, in parts {name: (n, ...)}. ``facts["what"]`` begins
        the file's name. The arrays are memory-mapped, so rows take no memory until they are read.
        A folder without enough space raises a `SettingsError`, one that cannot be written to an
        OSError.
        """
        path = self.path(facts)
        if (found := self._load(path, facts)) is not None:
            return found
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()
        with _locked(path):
            # Another process may have computed it meanwhile.
            if (found := self._load(path, facts, again=True)) is None:
                self._log_outdated(facts)
                self._compute(path, facts, count, compute)
                found = _read(path, facts)
            return found

    def _remove_leftovers(self) -> None:
        """Remove the unfinished entries of killed processes, which have released their locks."""
        for temporary in self.folder.glob(".*.tmp"):
            lock = FileLock(temporary.with_suffix(".lock"))
            try:
                with lock.acquire(timeout=0):
                    temporary.unlink(missing_ok=True)
            except Timeout:
                continue
            Path(lock.lock_file).unlink(missing_ok=True)

    def _load(self, path: Path, facts: Facts, again: bool = False) -> dict[str, Tensor] | None:
        if not path.is_file():
            return None
        try:
            arrays = _read(path, facts)
        except DamagedError as error:
            if not again:
                print(f"Feature store: {path} is damaged ({error}) and is computed again")
            return None
        count = len(next(iter(arrays.values())))
        print(f"Feature store: reused {count:,} {facts['what']} features from {path}")
        return arrays

    def _compute(
        self, path: Path, facts: Facts, count: int, compute: Callable[[], Iterable[Rows]]
    ) -> None:
        start = time.perf_counter()
        parts = iter(compute())
        first = next(parts)
        writer = _Writer(facts, count, first)
        self._check_space(writer.size, count, facts)
        temporary = path.with_name(f".{path.stem}.tmp")  # the lock admits one writer
        try:
            with open(temporary, "wb") as stream:
                writer.write(stream, first)
                for rows in parts:
                    writer.write(stream, rows)
                writer.finish(stream)
            os.replace(temporary, path)
        except OSError as error:
            if error.errno is None or error.filename not in (None, str(temporary)):
                raise
            # A failed write knows no path, and the temporary file is of no use to the reader.
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            temporary.unlink(missing_ok=True)
        seconds = time.perf_counter() - start
        print(
            f"Feature store: computed {count:,} {facts['what']} features in {seconds:,.1f} s "
            f"({count / seconds:,.1f} images/s), {readable(writer.size)}: {path}"
        )

    def _check_space(self, size: int, count: int, facts: Facts) -> None:
        free = shutil.disk_usage(self.folder).free
        print(
            f"Feature store: {count:,} {facts['what']} features need {readable(size)} in "
            f"{self.folder}, {readable(free)} are free"
        )
        if size > free:
            raise SettingsError(
                f"{self.key} {self.folder} has {readable(free)} free, but {count:,} "
                f"{facts['what']} features need {readable(size)}: choose another folder, or leave "
                f"{self.key} empty"
            )

    def _log_outdated(self, facts: Facts) -> None:
        """Log the entries with the same facts for images that have changed since."""
        for path in sorted(self.folder.glob(f"{facts['what']}-*.safetensors")):
            try:
                with _opened(path) as file:
                    other = _facts(file)
            except DamagedError:
                continue
            changed = {key for key in {*facts, *other} if facts.get(key) != other.get(key)}
            if changed == {"times"}:
                print(f"Feature store: {path} is outdated: image files have changed since")


class _Writer:
    """Writes a safetensors file from rows that arrive in parts.

    The library writes whole tensors only, which may not fit into memory.
    """

    def __init__(self, facts: Facts, count: int, first: Rows) -> None:
        self.facts, self.count = facts, count
        # Wide types first, so that every array is aligned to its items.
        names = sorted(first, key=lambda name: -first[name].dtype.itemsize)
        self.layout: dict[str, Any] = {}
        self.digests: dict[str, Any] = {}
        self.written = dict.fromkeys(names, 0)  # bytes
        end = 0
        for name in names:
            rows = first[name]
            begin, end = end, end + count * rows[0].numel() * rows.dtype.itemsize
            shape = [count, *rows.shape[1:]]
            code = CODES[rows.dtype]
            self.layout[name] = {"dtype": code, "shape": shape, "data_offsets": [begin, end]}
            self.digests[name] = _digest(code, shape)
        self.start = len(self._header())
        self.size = self.start + end

    def _header(self) -> bytes:
        digests = {f"sha256 {name}": digest.hexdigest() for name, digest in self.digests.items()}
        metadata = {"facts": json.dumps(self.facts, sort_keys=True), **digests}
        text = json.dumps({"__metadata__": metadata, **self.layout}).encode()
        text += b" " * (-(8 + len(text)) % ALIGNMENT)
        return len(text).to_bytes(8, "little") + text

    def write(self, stream: BinaryIO, rows: Rows) -> None:
        for name, layout in self.layout.items():
            content = tensor_bytes(rows[name])
            begin, end = layout["data_offsets"]
            if begin + self.written[name] + content.nbytes > end:
                raise ValueError(f"more than the {self.count} rows of {name} that were announced")
            stream.seek(self.start + begin + self.written[name])
            stream.write(content)
            self.digests[name].update(content)
            self.written[name] += content.nbytes

    def finish(self, stream: BinaryIO) -> None:
        """Write the header with the final digests, which does not change its length."""
        for name, layout in self.layout.items():
            begin, end = layout["data_offsets"]
            if begin + self.written[name] != end:
                raise ValueError(f"less than the {self.count} rows of {name} that were announced")
        stream.seek(0)
        stream.write(self._header())
        stream.flush()
        os.fsync(stream.fileno())


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor, on the CPU and contiguous."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _digest(code: str, shape: list[int]) -> Any:
    return hashlib.sha256(f"{code} {shape}\0".encode())


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    # Imported here because a CoOp checkout, which has no feature store, need not have it.
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"it cannot be read: {str(error)[:200]}") from error


def _facts(file: Any) -> dict[str, Any]:
    """Return the facts in the header of an entry."""
    facts = json.loads(file.metadata()["facts"])
    if not isinstance(facts, dict):
        raise DamagedError("its header contains no facts")
    return facts


def _read(path: Path, facts: Facts) -> dict[str, Tensor]:
    """Return the arrays of an entry after checking every byte."""
    arrays = {}
    with _opened(path) as file:
        metadata = file.metadata()
        if _facts(file) != dict(facts):
            raise DamagedError("its header contains other facts")
        for name in file.keys():  # noqa: SIM118  (not a mapping)
            array = arrays[name] = file.get_tensor(name)
            digest = _digest(CODES[array.dtype], list(array.shape))
            digest.update(tensor_bytes(array))
            if digest.hexdigest() != metadata[f"sha256 {name}"]:
                raise DamagedError(f"the checksum of its {name} array is wrong")
    return arrays


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes from computing the entry ``path``; the lock ends with its process."""
    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    try:
        acquired = lock.acquire(timeout=0)
    except Timeout:
        # filelock takes some folders that cannot contain files for locked ones.
        open(lock.lock_file, "a").close()
        print(f"Feature store: waiting for another process that computes {path}")
        acquired = lock.acquire()
    with acquired:
        yield
        # Removing the file is safe only now that a waiting process will find the entry.
        Path(lock.lock_file).unlink(missing_ok=True)


def readable(size: float) -> str:
    """Format bytes as text, in units of 1000."""
    if size < 1000:
        return f"{size} B"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:,.1f} TB"
