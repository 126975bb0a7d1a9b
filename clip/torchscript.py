"""Tensors of a TorchScript archive (OpenAI's .pt files), read without running the archive.

An archive is a zip file: ``code/`` holds the program, ``data.pkl`` the tree of module objects whose
attributes are the weights, ``data/<key>`` the bytes of each tensor. ``torch.jit.load``, deprecated,
compiles the program to get at the weights. Here nothing of the archive is executed: its classes are
replaced by inert records, tensors are rebuilt from bytes, and anything else is refused.
https://docs.pytorch.org/docs/stable/notes/serialization.html
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch

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

# How TorchScript writes an attribute that is a list, a dict or a device.
_SETTINGS = {("torch", "device"), ("torch.jit._pickle", "restore_type_tag")} | {
    ("torch.jit._pickle", f"build_{kind}list") for kind in ("int", "bool", "double", "tensor")
}

# Tensors of OpenAI's modules that TorchScript keeps although no state dict of CLIP has them.
_NOT_WEIGHTS = "attn_mask"


def read_torchscript(archive: zipfile.ZipFile) -> dict[str, torch.Tensor]:
    """The state dict of the archive's module, named by the paths of its attributes.

    Raises:
        WeightsError: the archive is damaged, or names anything but modules and tensors.
    """
    data = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
    unpickler = _TensorUnpickler(archive, prefix=data.removesuffix("data.pkl"))
    try:
        root = unpickler.load()
        if not isinstance(root, _Record):
            raise WeightsError(f"its data.pkl holds {type(root).__name__} instead of a module")
        return dict(_tensors(root, path=()))
    except (WeightsError, zipfile.BadZipFile):
        raise
    except Exception as error:  # pickle documents that damaged data may raise any
        raise WeightsError(f"its data.pkl cannot be read: {error!r}") from error


class _Record:
    """Stands in for a class of the archive's program, or a setting. Keeps its state, no more."""

    def __init__(self, *_: object) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _RebuildTensor:
    """``torch._utils._rebuild_tensor_v2``: a tensor from its storage, place, shape and strides.

    An object without attributes, so that a pickle cannot set any on it.
    """

    __slots__ = ()

    def __call__(
        self,
        storage: torch.Tensor,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        *_grad_and_hooks: object,
    ) -> torch.Tensor:
        return torch.as_strided(storage, size, stride, offset)


class _TensorUnpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, prefix: str) -> None:
        super().__init__(io.BytesIO(archive.read(prefix + "data.pkl")))
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
            f"it names {module}.{name}, which is neither a module nor a tensor, and was not run"
        )

    def persistent_load(self, pid: Any) -> torch.Tensor:
        """The storage that ``("storage", dtype, key, location, numel)`` names, on the CPU."""
        _, dtype, key, _, numel = pid
        if key not in self._storages:
            raw = bytearray(self._archive.read(f"{self._prefix}data/{key}"))
            if len(raw) != numel * dtype.itemsize:
                raise WeightsError(f"its tensor {key} has {len(raw)} bytes for {numel} {dtype}")
            empty = torch.empty(0, dtype=dtype)
            self._storages[key] = torch.frombuffer(raw, dtype=dtype) if raw else empty
        return self._storages[key]


def _tensors(module: _Record, path: tuple[str, ...]) -> Iterator[tuple[str, torch.Tensor]]:
    """(dotted name, tensor) of the module and all below it; other attributes are settings."""
    if not isinstance(module.state, dict):
        return  # a module without attributes
    for name, value in module.state.items():
        if isinstance(value, _Record):
            yield from _tensors(value, (*path, name))
        elif isinstance(value, torch.Tensor) and name != _NOT_WEIGHTS:
            yield ".".join((*path, name)), value
