"""Load a pickled checkpoint without executing code.

`torch_file` admits tensors and plain containers. Checkpoints of CoOp and its successors also pickle
scheduler and optimizer objects. Their classes are replaced by inert ones here, which have
attributes but no code. All other globals are refused.
"""

import inspect
from functools import cache
from pathlib import Path
from typing import Any

import torch

from .errors import UsageError
from .tools import PathLike
from .torch_file import ForbiddenNameError, TorchFileError, read_torch_file

# Classes of the original Dassl in its checkpoints.
_DASSL_CLASSES = {
    "dassl.optim.lr_scheduler": (
        "_BaseWarmupScheduler",
        "ConstantWarmupScheduler",
        "LinearWarmupScheduler",
    ),
    "dassl.optim.radam": ("RAdam", "PlainRAdam", "AdamW"),
}


class Inert:
    """Attributes of an object without its class."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __repr__(self) -> str:
        return f"<inert {type(self).__module__}.{type(self).__qualname__}>"


def safe_torch_load(path: PathLike) -> Any:
    """Load a file written by torch.save to the CPU.

    Raises:
        UsageError: the file is missing or broken, claims more than it has, or names a class or
            function that is not admitted.
    """
    if Path(path).is_dir():
        raise UsageError(f"{str(path)!r} is a folder, but should be a checkpoint: give its file")
    try:
        return read_torch_file(path, inert_classes())
    except FileNotFoundError:
        raise UsageError(f"no checkpoint at {str(path)!r}") from None
    except ForbiddenNameError as error:
        raise UsageError(
            f"refused to load {str(path)!r}: {error}; a checkpoint may contain only tensors, plain "
            "containers, optimizers and schedulers"
        ) from error
    except TorchFileError as error:
        raise UsageError(
            f"cannot read the checkpoint {str(path)!r}, is it complete? ({error})"
        ) from error


@cache
def inert_classes() -> tuple[Any, ...]:
    """Return inert classes for torch.optim.* and dassl.optim.*, and the containers they pickle."""
    names = {(module, name) for module, names in _DASSL_CLASSES.items() for name in names}
    for namespace in (torch.optim, torch.optim.lr_scheduler):
        names |= {
            (cls.__module__, cls.__qualname__)
            for _, cls in inspect.getmembers(namespace, inspect.isclass)
            if cls.__module__.startswith("torch.optim.")
        }
    # An optimizer's state is a defaultdict(dict); old files have Python 2's module name.
    names |= {("builtins", "dict"), ("__builtin__", "dict")}
    classes = tuple(
        type(name, (Inert,), {"__module__": module, "__qualname__": name})
        for module, name in sorted(names)
    )

    def defaultdict(factory: Any = None) -> dict[Any, Any]:
        return {}  # never calls the factory

    defaultdict.__module__, defaultdict.__qualname__ = "collections", "defaultdict"
    return (*classes, defaultdict)
