"""Read the tensors of a TorchScript archive (OpenAI's .pt files) without executing it.

An archive is a zip file: ``code/`` contains the program, ``data.pkl`` a tree of modules with the
weights as attributes, and ``data/<key>`` the bytes of each tensor. The deprecated
``torch.jit.load`` compiles the program to reach the weights. Here classes are replaced by inert
records, tensors are rebuilt from bytes, and anything else is refused.
https://docs.pytorch.org/docs/stable/notes/serialization.html
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from typing import Any

import torch

from dassl.utils.torch_file import TorchFileError, check_members, check_pickle, check_view

from .errors import WeightsError

_STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

# TorchScript's representation of an attribute that is a list, a dict or a device.
_SETTINGS = {("torch", "device"), ("torch.jit._pickle", "restore_type_tag")} | {
    ("torch.jit._pickle", f"build_{kind}list") for kind in ("int", "bool", "double", "tensor")
}

# CLIP's modules are nested 6 times, with 1,000 weights.
_MAX_DEPTH, _MAX_NAMES, _MAX_LENGTH = 100, 100_000, 200
_NOT_WEIGHTS = "attn_mask"  # a tensor in OpenAI's archives, but not in a CLIP's state dict


def read_torchscript(archive: zipfile.ZipFile, size: int) -> dict[str, torch.Tensor]:
    """Return the state dict of the module in an archive of ``size`` bytes.

    Raises:
        WeightsError: the archive is damaged, or names anything but modules and tensors.
    """
    data = next(name for name in archive.namelist() if name.split("/", 1)[-1] == "data.pkl")
    prefix = data.removesuffix("data.pkl")
    read = [
        name for name in archive.namelist() if name == data or name.startswith(f"{prefix}data/")
    ]
    check_members(archive, read, size)
    try:
        pickled = archive.read(data)
        check_pickle(pickled)
        unpickler = _TensorUnpickler(archive, prefix, pickled)
        root = unpickler.load()
        if not isinstance(root, _Record):
            raise WeightsError(f"its data.pkl contains {type(root).__name__} instead of a module")
        return _tensors(root)
    except (WeightsError, TorchFileError, zipfile.BadZipFile, MemoryError):
        raise
    except Exception as error:  # pickle documents that damaged data may raise any
        raise WeightsError(f"its data.pkl cannot be read: {repr(error)[:200]}") from error


class _Record:
    """Replacement for a class of the archive's program or a setting; keeps the state only."""

    def __init__(self, *_: object) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _RebuildTensor:
    """Replacement for ``torch._utils._rebuild_tensor_v2``; a pickle cannot set attributes on it."""

    __slots__ = ()

    def __call__(
        self,
        storage: torch.Tensor,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        *_grad_and_hooks: object,
    ) -> torch.Tensor:
        check_view(len(storage), offset, size, stride)
        return torch.as_strided(storage, size, stride, offset)


class _TensorUnpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, prefix: str, pickled: bytes) -> None:
        super().__init__(io.BytesIO(pickled))
        self._archive = archive
        self._prefix = prefix
        self._storages: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__" or (module, name) in _SETTINGS:
            return _Record
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _RebuildTensor()
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise WeightsError(
            f"it names {module}.{name}, which is neither a module nor a tensor and was not executed"
        )

    def persistent_load(self, pid: Any) -> torch.Tensor:
        """Return the CPU storage of ``("storage", dtype, key, location, numel)``."""
        _, dtype, key, _, numel = pid
        if key not in self._storages:
            raw = bytearray(self._archive.read(f"{self._prefix}data/{key}"))
            if len(raw) != numel * dtype.itemsize:
                raise WeightsError(
                    f"its tensor {key} has {len(raw)} bytes instead of {numel} {dtype} values"
                )
            empty = torch.empty(0, dtype=dtype)
            self._storages[key] = torch.frombuffer(raw, dtype=dtype) if raw else empty
        return self._storages[key]


def _tensors(root: _Record) -> dict[str, torch.Tensor]:
    """Return the tensors of a module and its submodules by their dotted names."""
    found: dict[str, torch.Tensor] = {}
    pending: list[tuple[str, _Record, int]] = [("", root, 0)]
    visited = 0
    while pending:
        path, module, depth = pending.pop()
        visited += 1
        if depth > _MAX_DEPTH or visited + len(found) + len(pending) > _MAX_NAMES:
            raise WeightsError(
                f"its modules are nested more than {_MAX_DEPTH} times, or have more than "
                f"{_MAX_NAMES:,} weights"
            )
        if not isinstance(module.state, dict):
            continue  # a module without attributes
        for name, value in module.state.items():
            if not isinstance(name, str) or len(name) > _MAX_LENGTH:
                raise WeightsError(f"it has an attribute named {repr(name)[:80]}")
            if isinstance(value, _Record):
                pending.append((f"{path}{name}.", value, depth + 1))
            elif isinstance(value, torch.Tensor) and name != _NOT_WEIGHTS:
                found[f"{path}{name}"] = value
    return found
