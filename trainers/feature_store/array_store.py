"""Arrays on disk, found again by the facts that they depend on.

An entry is one safetensors file, named by a hash of its facts; it holds them, and a sha256 of each
array, in its header. It appears by a rename, whole or not at all; a lock lets one process compute
an entry while the others wait for it. Entries may be deleted at any time.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..settings import SettingsError

__all__ = ["ArrayStore", "tensor_bytes"]

Facts = Mapping[str, str | int]
Rows = Mapping[str, Tensor]

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
CODES = {dtype: code for code, dtype in DTYPES.items()}
ALIGNMENT = 64  # bytes; of the first array within the file
MOST_HEADER = 1 << 24  # bytes; more is no header


class DamagedError(Exception):
    """An entry is not what its writer left; the message says how."""


class ArrayStore:
    """A folder of entries.

    Args:
        folder: made when the first entry is written.
        key: the setting that names it, for messages.
    """

    def __init__(self, folder: str, key: str) -> None:
        self.folder = Path(os.path.expanduser(folder))
        self.key = key

    def path(self, facts: Facts) -> Path:
        """Where the entry of these facts is, or would be."""
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{facts['what']}-{digest[:32]}.safetensors"

    def get(
        self, facts: Facts, count: int, compute: Callable[[], Iterable[Rows]]
    ) -> dict[str, Tensor]:
        """The arrays of an entry, each of ``count`` rows; computed and stored if it is not there.

        The arrays are maps of the file, which takes no memory until rows are read.

        Args:
            facts: all that the arrays depend on; ``facts["what"]`` begins the file's name.
            count: N, the first size of every array.
            compute: yields the rows in order, in parts {name: (n, ...)}, whose n sum up to N.

        Raises:
            SettingsError: the folder cannot be written, or has not enough space.
        """
        path = self.path(facts)
        if (found := self._load(path, facts)) is not None:
            return found
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _alone(path):
                # Another process may have computed it meanwhile.
                if (found := self._load(path, facts, again=True)) is not None:
                    return found
                self._name_outdated(facts)
                self._compute(path, facts, count, compute)
        except OSError as error:
            raise SettingsError(
                f"{self.key} {self.folder} cannot take the features ({error}): free or choose "
                f"another folder, or leave {self.key} empty"
            ) from error
        return _read(path, facts)

    def _load(self, path: Path, facts: Facts, again: bool = False) -> dict[str, Tensor] | None:
        if not path.is_file():
            return None
        try:
            arrays = _read(path, facts)
        except DamagedError as error:
            if not again:
                print(f"Feature store: {path} is damaged ({error}) and is computed anew")
            return None
        count = len(next(iter(arrays.values())))
        print(f"Feature store: reused {count:,} {facts['what']} features from {path}")
        return arrays

    def _compute(
        self, path: Path, facts: Facts, count: int, compute: Callable[[], Iterable[Rows]]
    ) -> None:
        start = time.perf_counter()
        size = self._write(path, facts, count, compute())
        seconds = time.perf_counter() - start
        print(
            f"Feature store: computed {count:,} {facts['what']} features in {seconds:,.1f} s "
            f"({count / seconds:,.1f} images/s), {readable(size)}: {path}"
        )

    def _write(self, path: Path, facts: Facts, count: int, parts: Iterable[Rows]) -> int:
        """Write an entry beside ``path`` and rename it; returns its size in bytes."""
        iterator = iter(parts)
        first = next(iterator)
        file = _File(facts, count, first)
        self._check_space(file.size, count, facts)
        temporary = path.with_name(f".{path.stem}.tmp")  # one writer: the lock is held
        try:
            with open(temporary, "wb") as stream:
                file.put(stream, first)
                for rows in iterator:
                    file.put(stream, rows)
                file.finish(stream)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return file.size

    def _check_space(self, size: int, count: int, facts: Facts) -> None:
        free = shutil.disk_usage(self.folder).free
        print(
            f"Feature store: {count:,} {facts['what']} features need {readable(size)} in "
            f"{self.folder}, {readable(free)} are free"
        )
        if size > free:
            raise SettingsError(
                f"{self.key} {self.folder} has {readable(free)} free, {count:,} {facts['what']} "
                f"features need {readable(size)}: choose another folder, or leave {self.key} empty"
            )

    def _name_outdated(self, facts: Facts) -> None:
        """Say which entries hold the same of images that have changed since."""
        for path in sorted(self.folder.glob(f"{facts['what']}-*.safetensors")):
            try:
                other = _header(path)[0]
            except DamagedError:
                continue
            changed = {key for key in {*facts, *other} if facts.get(key) != other.get(key)}
            if changed == {"times"}:
                print(f"Feature store: {path} is outdated: image files have changed since")


class _File:
    """A safetensors file whose rows come in parts: header, then the arrays one after another."""

    def __init__(self, facts: Facts, count: int, first: Rows) -> None:
        self.facts, self.count = facts, count
        # Wide types first: every array then starts at a multiple of its item.
        names = sorted(first, key=lambda name: -first[name].dtype.itemsize)
        self.layout: dict[str, Any] = {}
        self.digests: dict[str, Any] = {}
        self.done = dict.fromkeys(names, 0)  # bytes
        end = 0
        for name in names:
            rows = first[name]
            begin, end = end, end + count * rows[0].numel() * rows.dtype.itemsize
            self.layout[name] = {
                "dtype": CODES[rows.dtype],
                "shape": [count, *rows.shape[1:]],
                "data_offsets": [begin, end],
            }
            self.digests[name] = _digest(self.layout[name])
        self.start = len(self._header())
        self.size = self.start + end

    def _header(self) -> bytes:
        digests = {f"sha256 {name}": digest.hexdigest() for name, digest in self.digests.items()}
        metadata = {"facts": json.dumps(self.facts, sort_keys=True), **digests}
        text = json.dumps({"__metadata__": metadata, **self.layout}).encode()
        text += b" " * (-(8 + len(text)) % ALIGNMENT)
        return len(text).to_bytes(8, "little") + text

    def put(self, stream: Any, rows: Rows) -> None:
        for name, layout in self.layout.items():
            content = tensor_bytes(rows[name])
            begin, end = layout["data_offsets"]
            if begin + self.done[name] + content.nbytes > end:
                raise ValueError(f"more than the {self.count} rows of {name} that were announced")
            stream.seek(self.start + begin + self.done[name])
            stream.write(content)
            self.digests[name].update(content)
            self.done[name] += content.nbytes

    def finish(self, stream: Any) -> None:
        for name, layout in self.layout.items():
            begin, end = layout["data_offsets"]
            if begin + self.done[name] != end:
                raise ValueError(f"less than the {self.count} rows of {name} that were announced")
        stream.seek(0)
        stream.write(self._header())  # of the same length as before: digests have one length
        stream.flush()
        os.fsync(stream.fileno())


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, on the CPU and contiguous."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _digest(layout: Mapping[str, Any]) -> Any:
    """Of an array: begins with its type and shape, to be updated with its bytes."""
    return hashlib.sha256(f"{layout['dtype']} {layout['shape']}\0".encode())


def _header(path: Path) -> tuple[dict[str, Any], dict[str, str], dict[str, Any], int]:
    """Facts, digests, layout and start of the arrays."""
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(min(length, MOST_HEADER))
    try:
        layout = json.loads(text)
        metadata = layout.pop("__metadata__")
        return json.loads(metadata.pop("facts")), metadata, layout, 8 + length
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError("its header cannot be read") from error


def _read(path: Path, facts: Facts) -> dict[str, Tensor]:
    """The arrays of an entry after a check of every byte of it."""
    found, digests, layout, start = _header(path)
    if found != dict(facts):
        raise DamagedError("its header tells of other features")
    size = path.stat().st_size
    try:
        expected = start + max(entry["data_offsets"][1] for entry in layout.values())
        if size != expected:
            raise DamagedError(f"it has {size:,} bytes instead of {expected:,}")
        content = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
        arrays = {}
        for name, entry in layout.items():
            begin, end = (start + offset for offset in entry["data_offsets"])
            raw, digest = content[begin:end], _digest(entry)
            digest.update(tensor_bytes(raw))
            if digest.hexdigest() != digests[f"sha256 {name}"]:
                raise DamagedError(f"the checksum of its {name} array is wrong")
            arrays[name] = raw.view(DTYPES[entry["dtype"]]).view(entry["shape"])
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError("its header cannot be read") from error
    return arrays


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes out of the entry ``path``, by a lock that ends with its holder."""
    lock = path.with_name(f".{path.stem}.lock")
    descriptor = _lock(lock, path)
    try:
        yield
    finally:
        lock.unlink()
        os.close(descriptor)


def _lock(lock: Path, path: Path) -> int:
    while True:
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Feature store: waiting for another process that computes {path}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # The holder before may have removed the file that we waited for.
        if lock.exists() and os.path.samestat(lock.stat(), os.fstat(descriptor)):
            return descriptor
        os.close(descriptor)


def readable(size: float) -> str:
    """Bytes as text, in units of 1000."""
    if size < 1000:
        return f"{size} B"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:,.1f} TB"
