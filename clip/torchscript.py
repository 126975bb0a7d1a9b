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

# TorchScript's representation of an attribute that is a list, a dict or a device.
_SETTINGS = {("torch", "device"), ("torch.jit._pickle", "restore_type_tag")} | {
    ("torch.jit._pickle", f"build_{kind}list") for kind in ("int", "bool", "double", "tensor")
}

_NOT_WEIGHTS = "attn_mask"  # a tensor in OpenAI's archives, but not in a CLIP's state dict


def read_torchscript(archive: zipfile.ZipFile) -> dict[str, torch.Tensor]:
    """Return the state dict of the archive's module.

    Raises:
        WeightsError: the archive is damaged, or names anything but modules and tensors.
    """
    data = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
    unpickler = _TensorUnpickler(archive, prefix=data.removesuffix("data.pkl"))
    try:
        root = unpickler.load()
        if not isinstance(root, _Record):
            raise WeightsError(f"its data.pkl contains {type(root).__name__} instead of a module")
        return dict(_tensors(root, path=()))
    except (WeightsError, zipfile.BadZipFile):
        raise
    except Exception as error:  # pickle documents that damaged data may raise any
        raise WeightsError(f"its data.pkl cannot be read: {error!r}") from error


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


def _tensors(module: _Record, path: tuple[str, ...]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (dotted name, tensor) of a module and its submodules."""
    if not isinstance(module.state, dict):
        return  # a module without attributes
    for name, value in module.state.items():
        if isinstance(value, _Record):
            yield from _tensors(value, (*path, name))
        elif isinstance(value, torch.Tensor) and name != _NOT_WEIGHTS:
            yield ".".join((*path, name)), value
