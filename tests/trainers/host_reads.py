"""Count operations of a step that would make the host wait for a GPU, on any device."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Their result, or its shape, is available to the host only after the device has computed it.
READS = {
    "aten::_local_scalar_dense",  # item(), float(), bool(), int(), "if tensor"
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_consecutive",
    "aten::unique_dim",
    "aten::bincount",
    "aten::repeat_interleave",  # of a tensor of repeats
}
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_"}  # with a mask they wait
COPIES = {Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__}


class _Copies(TorchFunctionMode):
    """Copies to the host, which cannot be seen among the operations of a CPU."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func in COPIES:
            self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


class HostReads(TorchDispatchMode):
    """A context manager that collects the names of operations that read a tensor on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self._copies = _Copies(self.names)

    def __enter__(self) -> "HostReads":
        super().__enter__()
        self._copies.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._copies.__exit__(*exception)
        super().__exit__(*exception)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func.name().split(".")[0]
        masks = name in INDEXING and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in READS or masks:
            self.names.append(name)
        return func(*args, **(kwargs or {}))
