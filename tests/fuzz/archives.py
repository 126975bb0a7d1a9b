"""Hostile archives and pickles in the formats of torch.save and TorchScript."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import torch

GLOBAL_EXEC = b"\x80\x02cbuiltins\nexec\nX\x06\x00\x00\x00import\x85R."
GLOBAL_SYSTEM = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."
MEMO_BOMB = b"\x80\x02Nr" + struct.pack("<I", 2**30) + b"."
BYTEARRAY_BOMB = b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"."
TENSOR_CLASS_BOMB = b"\x80\x02ctorch\nFloatTensor\n\x8a\x05" + b"\x00\x00\x00\x00\x10" + b"\x85R."
DEEP_KEY = b"\x80\x02}(K\x00" + b"\x85" * 10**5 + b"K\x01u."  # {((((0,),),),): 1}
DEEP_LISTS = b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b"."


class Storage:
    """A storage that claims ``items`` float32 values of the member ``key``."""

    def __init__(self, items: int, key: str = "0") -> None:
        self.pid = ("storage", torch.FloatStorage, key, "cpu", items)


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> object:
        return value.pid if isinstance(value, Storage) else None


class _View:
    def __init__(self, items: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.arguments = (Storage(items), 0, shape, stride, False, None)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return torch._utils._rebuild_tensor_v2, self.arguments


class _Set(_View):
    """A tensor with a storage that is set again, to larger bounds, after it was rebuilt."""

    def __reduce__(self) -> tuple[object, ...]:
        function, arguments = super().__reduce__()
        return function, arguments, (Storage(4), 0, (2**33,), (0,))


def _dump(value: object) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=2).dump({"state_dict": {"weight": value}, "epoch": 1})
    return buffer.getvalue()


STRIDE_BOMB = _dump(_View(4, (10**9,), (0,)))
SIZE_BOMB = _dump(_View(4, (10**9,), (1,)))
STORAGE_BOMB = _dump(_View(10**10, (4,), (1,)))
SET_BOMB = _dump(_Set(4, (4,), (1,)))

PICKLES = {
    "exec": GLOBAL_EXEC,
    "system": GLOBAL_SYSTEM,
    "memo": MEMO_BOMB,
    "deep key": DEEP_KEY,
    "deep lists": DEEP_LISTS,
    "bytearray": BYTEARRAY_BOMB,
    "tensor class": TENSOR_CLASS_BOMB,
    "stride 0": STRIDE_BOMB,
    "size": SIZE_BOMB,
    "storage": STORAGE_BOMB,
    "storage set again": SET_BOMB,
}


def members(archive: bytes) -> dict[str, bytes]:
    """Return the content of a zip archive by member."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return {name: file.read(name) for name in file.namelist()}


def repacked(
    content: dict[str, bytes], changes: dict[str, bytes], compression: int = zipfile.ZIP_STORED
) -> bytes:
    """Return a zip archive with other bytes for the members that end in the names ``changes``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, raw in content.items():
            ending = next((each for each in changes if name.endswith(f"/{each}")), None)
            file.writestr(name, raw if ending is None else changes[ending])
    return buffer.getvalue()


def archive_of(pickled: bytes) -> bytes:
    """Return an archive of torch.save with this pickle and a storage of four numbers."""
    content = {"x/data.pkl": pickled, "x/byteorder": b"little", "x/data/0": bytes(16)}
    return repacked({**content, "x/version": b"3\n"}, {})


def legacy_of(pickled: bytes) -> bytes:
    """Return a file of PyTorch before 1.6 with this pickle and a storage of four numbers."""
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    parts = [pickle.dumps(each, protocol=2) for each in head]
    storage = struct.pack("<q", 4) + bytes(16)
    return b"".join([*parts, pickled, pickle.dumps(["0"], protocol=2), storage])


def zip_bomb(archive: bytes) -> bytes:
    """Return an archive with 30 MB of zeros as its first tensor, compressed to 30 kB."""
    content = members(archive)
    return repacked(content, {"data/0": bytes(3 * 10**7)}, zipfile.ZIP_DEFLATED)


def saved(content: object, zipped: bool = True) -> bytes:
    """Return the file of torch.save."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def write_inside(path: Path, archive: dict[str, bytes], pickled: bytes) -> Path:
    """Write the archive with another data.pkl, and checksums that fit."""
    path.write_bytes(repacked(archive, {"data.pkl": pickled}))
    return path
