"""Check what a file of torch.save claims before PyTorch spends memory on it, then load it.

The pickle in the file is first read with inert stand-ins for every class and function it names, so
nothing is executed or allocated. This pass refuses names other than those of tensors and plain
containers, storages that claim more bytes than the file has for them, and tensors that claim more
elements than their storage has. https://docs.pytorch.org/docs/stable/notes/serialization.html
"""

import errno
import io
import math
import mmap
import os
import pickle
import pickletools
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.serialization import safe_globals

from .errors import UsageError
from .failures import describe_failure
from .tools import PathLike

_MAGIC = 0x1950A86A20F9469CFC6C  # the first object in a file of PyTorch before 1.6
_NOT_CONTAINERS = 3  # objects in such a file before the content: magic, version, system
# What PyTorch's restricted unpickler reads; torch.save writes protocol 2.
_OPCODES = {
    "GLOBAL", "NEWOBJ", "REDUCE", "BUILD", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "MARK",
    "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "NONE", "NEWFALSE", "NEWTRUE", "EMPTY_TUPLE",
    "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "BININT", "BININT1", "BININT2", "BINFLOAT",
    "BINUNICODE", "SHORT_BINSTRING", "BINPERSID", "BINGET", "LONG_BINGET", "BINPUT",
    "LONG_BINPUT", "LONG1", "PROTO", "STOP",
}  # fmt: skip
_CONTAINERS = {
    "collections.OrderedDict",
    "collections.Counter",
    "builtins.set",
    "__builtin__.set",
    "torch.Size",
    "torch.device",
}
_ADDING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
_MAX_DIMS = 64
_MAX_DEPTH = 100  # of nested containers; checkpoints have about 6

_Memo = dict[int, list[int] | None]


class TorchFileError(UsageError):
    """A file is not one of torch.save, is damaged, or claims too much; the message says what."""


class ForbiddenNameError(TorchFileError):
    """A file names a class or function that is not admitted."""


def read_torch_file(path: PathLike, admitted: Sequence[Any] = ()) -> Any:
    """Return the content of a file of torch.save, on the CPU, without executing any of it.

    Args:
        admitted: classes and functions that the file may name, besides tensors and containers;
            they must be harmless for any arguments.

    Raises:
        TorchFileError: see the module.
        OSError: the file cannot be opened.
    """
    names = {f"{each.__module__}.{each.__qualname__}" for each in admitted}
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise TorchFileError("the file is empty")
        zipped = file.read(4) == b"PK\x03\x04"
    with reading():
        if zipped:
            _scan_zip(Path(path), names)
        else:
            _scan_legacy(Path(path), names)
    try:
        # An open file, because torch.load reads a path called .safetensors in another way.
        with safe_globals(list(admitted)), open(path, "rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        if describe_failure(error) is not None:  # the machine's, such as too little memory
            raise
        raise TorchFileError(f"PyTorch cannot read it ({_first_line(error)})") from error


@contextmanager
def reading() -> Iterator[None]:
    """Raise a TorchFileError for anything that damaged data raises within the context.

    Errors of the machine, which have another cause, are raised as they are.
    """
    try:
        yield
    except (UsageError, MemoryError):
        raise
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise TorchFileError("it is damaged (it refers to bytes before its start)") from error
    except Exception as error:  # pickle documents that damaged data may raise any
        raise TorchFileError(f"it is damaged ({_first_line(error)})") from error


@contextmanager
def open_archive(path: PathLike) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive for a context; raise a TorchFileError if it has no valid directory."""
    with reading():
        try:
            archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise TorchFileError(
                "it is truncated (a zip archive without its end); download it again"
            ) from error
        with archive:
            yield archive


def check_pickle(data: bytes, opcodes: Collection[str] | None = None) -> int:
    """Check the instructions of the pickle at the start of ``data``; return its length.

    Python's unpickler allocates a table for the largest memo index and buffers for announced
    lengths, so a file of a few bytes could claim all memory. The hash of a tuple in a million
    others ends the process.

    Args:
        opcodes: instructions that are allowed; None allows all.

    Raises:
        TorchFileError: an instruction is not allowed or claims more than the data has.
    """
    end = 0
    stack: list[list[int] | None] = []
    memo: _Memo = {}
    for opcode, argument, position in pickletools.genops(io.BytesIO(data)):
        name = opcode.name
        if opcodes is not None and name not in opcodes:
            raise TorchFileError(
                f"it has the pickle instruction {name}, which PyTorch never writes"
            )
        if name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= len(data):
            raise TorchFileError(f"its pickle claims {argument:,} entries in {len(data):,} bytes")
        _follow(opcode, argument, stack, memo)
        end = (position or 0) + 1
    return end


def _follow(opcode: Any, argument: Any, stack: list[list[int] | None], memo: _Memo) -> None:
    """Apply an instruction to a stack of nesting depths, [depth] for an object and None for a mark.

    An object in the memo shares its list with the stack, so that later additions count.
    """
    name, before, after = opcode.name, opcode.stack_before, opcode.stack_after
    if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
        memo[len(memo) if name == "MEMOIZE" else int(argument)] = stack[-1]
        return
    if name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[int(argument)])
        return
    if name == "MARK":
        stack.append(None)
        return
    items: list[list[int]] = []
    if pickletools.markobject in before:
        while (item := stack.pop()) is not None:
            items.append(item)
        before = before[: before.index(pickletools.markobject)]
    items += [item for _ in before if (item := stack.pop()) is not None]
    depth = max((item[0] for item in items), default=0)
    if name in _ADDING:  # the container is the object below all others
        container = items.pop()
        inside = max((item[0] for item in items), default=-1)
        container[0] = depth = max(container[0], 1 + inside)
        stack.append(container)
    else:
        depth += pickletools.pytuple in after
        stack += [[depth] for _ in after]
    if depth > _MAX_DEPTH:
        raise TorchFileError(f"it has objects nested more than {_MAX_DEPTH} times")


def check_members(archive: zipfile.ZipFile, names: Collection[str], size: int) -> None:
    """Raise TorchFileError unless the members ``names`` are as large as a file of ``size`` bytes.

    PyTorch stores tensors without compression, so compressed ones are refused.
    """
    members = [info for info in archive.infolist() if info.filename in set(names)]
    if len(members) != len(set(names)):
        raise TorchFileError("its archive has several members of one name")
    for info in members:
        if info.compress_type != zipfile.ZIP_STORED:
            raise TorchFileError(
                f"its member {info.filename!r} is compressed, which PyTorch never does"
            )
    total = sum(info.file_size for info in members)
    if total > size:
        raise TorchFileError(f"its members claim {total:,} bytes, but the file has {size:,}")


def check_view(
    items: int, offset: Any, shape: Any, stride: Any, max_items: int | None = None
) -> None:
    """Raise TorchFileError unless a tensor lies in a storage of ``items`` elements.

    A tensor may not have more elements than its storage, as an expanded one (stride 0) would:
    a copy of it takes memory that the file does not have.
    """
    numbers = (
        [offset, *shape, *stride] if isinstance(shape, tuple) and isinstance(stride, tuple) else []
    )
    if not numbers or len(shape) != len(stride) or len(shape) > _MAX_DIMS:
        raise TorchFileError("it has a tensor without a valid shape")
    if not all(type(number) is int and 0 <= number < 2**62 for number in numbers):
        raise TorchFileError("it has a tensor without a valid shape")
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if count > (items if max_items is None else max_items) or (count and last >= items):
        raise TorchFileError(
            f"it has a tensor of shape {shape} and stride {stride}, out of bounds of its storage "
            f"of {items:,} elements"
        )


def _scan_zip(path: Path, admitted: Collection[str]) -> None:
    with open_archive(path) as archive:
        names = archive.namelist()
        folders = {name.split("/", 1)[0] for name in names}
        if len(folders) != 1 or f"{(folder := folders.pop())}/data.pkl" not in names:
            raise TorchFileError("it is a zip archive without data.pkl, so not one of PyTorch")
        check_members(archive, names, path.stat().st_size)
        data = archive.read(f"{folder}/data.pkl")
        prefix = f"{folder}/data/"
        sizes = {
            info.filename.removeprefix(prefix): info.file_size
            for info in archive.infolist()
            if info.filename.startswith(prefix)
        }
        check_pickle(data, _OPCODES)
        _Scanner(data, admitted, sizes).load()


def _scan_legacy(path: Path, admitted: Collection[str]) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        position = 0
        for number in range(_NOT_CONTAINERS + 2):  # and the content, and the storages' names
            rest = content[position : min(len(content), position + 2**26)]
            length = check_pickle(rest, _OPCODES)
            scanner = _Scanner(rest[:length], admitted, None)
            found = scanner.load()
            if number == 0 and found != _MAGIC:
                raise TorchFileError("it is not a file of torch.save")
            if number == _NOT_CONTAINERS and scanner.claimed > len(content):
                size = f"{len(content):,}"
                raise TorchFileError(
                    f"its tensors claim {scanner.claimed:,} bytes, but the file has {size}"
                )
            position += length


class _Part:
    """Stand-in for an object of any admitted class; it forgets what it is given."""

    __slots__ = ()

    def __new__(cls, *_: object) -> "_Part":
        return object.__new__(cls)

    def forget(self, *_: object) -> None:
        """Accept anything."""

    __setstate__ = __setitem__ = append = extend = forget


class _Tensor:
    """Stand-in for a tensor, which a pickle may not change after it was checked."""

    __slots__ = ()

    def __setstate__(self, _: object) -> None:
        raise TorchFileError("it sets the storage of a tensor a second time")


class _Storage:
    """Stand-in for a storage of ``items`` elements."""

    __slots__ = ("items",)

    def __init__(self, items: int) -> None:
        self.items = items


class _StorageType:
    """Stand-in for the class of a storage with elements of ``itemsize`` bytes."""

    __slots__ = ("itemsize",)

    def __init__(self, itemsize: int) -> None:
        self.itemsize = itemsize


class _Rebuild:
    """Stand-in for the functions that rebuild tensors; a pickle cannot set attributes on it."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: object) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise TorchFileError("it has a tensor without a storage")
        check_view(storage.items, offset, shape, stride)
        return _Tensor()


class _Parameter:
    """Stand-in for the function that makes a tensor a parameter."""

    __slots__ = ()

    def __call__(self, data: Any, *_: object) -> Any:
        if not isinstance(data, _Tensor):
            raise TorchFileError("it has a parameter without a tensor")
        return data


class _Encode:
    """Stand-in for the function with which protocol 2 writes bytes: as text in latin1."""

    __slots__ = ()

    def __call__(self, text: Any, codec: Any = "") -> _Part:
        if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
            raise TorchFileError(f"it encodes something else than bytes, as {str(codec)[:20]!r}")
        return _Part()


_FUNCTIONS: dict[str, Any] = {
    "_codecs.encode": _Encode(),
    "torch._utils._rebuild_tensor": _Rebuild(),
    "torch._utils._rebuild_tensor_v2": _Rebuild(),
    "torch._utils._rebuild_parameter": _Parameter(),
}


class _Scanner(pickle.Unpickler):
    """Read a pickle with stand-ins, and check its storages and tensors.

    ``sizes`` are the bytes of each storage in the file; None if they follow the pickle.
    """

    def __init__(
        self, data: bytes, admitted: Collection[str], sizes: Mapping[str, int] | None
    ) -> None:
        super().__init__(io.BytesIO(data))
        self._admitted = admitted
        self._sizes = sizes
        self._claims: dict[str, int] = {}

    @property
    def claimed(self) -> int:
        """The bytes of all storages."""
        return sum(self._claims.values())

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _FUNCTIONS:
            return _FUNCTIONS[full]
        if module in ("torch", "torch.cuda") and name in (sizes := _item_sizes()):
            return _StorageType(sizes[name])
        if full in _CONTAINERS or full in self._admitted or full in _dtypes():
            return _Part
        raise ForbiddenNameError(f"it names {full!r}, which could run code")

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage of ``("storage", type, key, location, numel[, view])``."""
        if not isinstance(pid, tuple) or len(pid) not in (5, 6):
            raise TorchFileError("it refers to something else than tensors")
        kind, dtype, key, location, items = pid[:5]
        valid = (
            kind == "storage"
            and isinstance(dtype, _StorageType)
            and isinstance(key, str)
            and isinstance(location, str)
            and type(items) is int
            and items >= 0
            and pid[5:] in ((), (None,))
        )
        if not valid:
            raise TorchFileError("it has a storage without a valid size")
        claim = items * dtype.itemsize
        if self._sizes is not None and self._sizes.get(key) != claim:
            found = f"{self._sizes[key]:,} bytes" if key in self._sizes else "nothing"
            raise TorchFileError(f"it has {found} for its tensor {key} of {claim:,} bytes")
        self._claims[key] = max(claim, self._claims.get(key, 0))
        return _Storage(items)


@cache
def _item_sizes() -> dict[str, int]:
    """Return the bytes of an element by the name of its storage class."""
    return {
        "HalfStorage": 2, "BFloat16Storage": 2, "FloatStorage": 4, "DoubleStorage": 8,
        "LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1,
        "BoolStorage": 1,
    }  # fmt: skip


@cache
def _dtypes() -> frozenset[str]:
    return frozenset(str(each) for each in vars(torch).values() if isinstance(each, torch.dtype))


def _first_line(error: Exception) -> str:
    """Return the reason in an exception's text, without PyTorch's advice to load it unsafely."""
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    line = (text.splitlines() or [""])[0]
    if "weights_only" in line:
        return type(error).__name__
    return (line[:160] if line else "") or type(error).__name__
