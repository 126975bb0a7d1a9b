"""Read a pickled checkpoint without running anything that it names.

torch.load(weights_only=True) admits tensors and plain containers. Checkpoints of CoOp and its
relatives also pickle live scheduler objects, and with them their optimizers. Those classes are
replaced by inert stand-ins here: their attributes can be read, none of their code exists. Every
other global is refused by name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.serialization import add_safe_globals, clear_safe_globals, get_safe_globals

from .errors import UsageError
from .tools import PathLike

# Classes of the original Dassl that its checkpoints name.
_DASSL_CLASSES = {
    "dassl.optim.lr_scheduler": (
        "_BaseWarmupScheduler",
        "ConstantWarmupScheduler",
        "LinearWarmupScheduler",
    ),
    "dassl.optim.radam": ("RAdam", "PlainRAdam", "AdamW"),
}


class Inert:
    """An object of a class that was not loaded: its attributes and nothing else."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __repr__(self) -> str:
        return f"<inert {type(self).__module__}.{type(self).__qualname__}>"


def safe_torch_load(path: PathLike) -> Any:
    """Return the content of a torch.save'd file on the CPU.

    Raises:
        UsageError: the file is missing, broken, or names a global that is not on the list above.
    """
    try:
        with _admit(_stand_ins()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"no checkpoint at {str(path)!r}") from None
    except Exception as error:  # a broken pickle can fail in any way; the cause stays attached
        raise UsageError(_explain(path, error)) from error


def _explain(path: PathLike, error: Exception) -> str:
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused:
        return (
            f"refused to load {str(path)!r}: it names {refused[1]!r}, which could run code; a "
            "checkpoint may hold tensors, plain containers, optimizers and schedulers only"
        )
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"cannot read the checkpoint {str(path)!r}, is it complete? ({first_line})"


@contextmanager
def _admit(stand_ins: tuple[Any, ...]) -> Iterator[None]:
    """Let torch's restricted unpickler use `stand_ins`, and only inside this context."""
    before = get_safe_globals()
    add_safe_globals(list(stand_ins))
    try:
        yield
    finally:
        clear_safe_globals()
        add_safe_globals(before)


@cache
def _stand_ins() -> tuple[Any, ...]:
    """Inert classes for torch.optim.* and dassl.optim.*, and the containers that they pickle."""
    names = {(module, name) for module, names in _DASSL_CLASSES.items() for name in names}
    for namespace in (torch.optim, torch.optim.lr_scheduler):
        names |= {
            (cls.__module__, cls.__qualname__)
            for _, cls in inspect.getmembers(namespace, inspect.isclass)
            if cls.__module__.startswith("torch.optim.")
        }
    # An optimizer's state is a defaultdict(dict); Python 2's name of the module is in old files.
    names |= {("builtins", "dict"), ("__builtin__", "dict")}
    classes = tuple(_inert_class(module, name) for module, name in sorted(names))
    return (*classes, _plain_defaultdict())


def _inert_class(module: str, name: str) -> type[Inert]:
    return type(name, (Inert,), {"__module__": module, "__qualname__": name})


def _plain_defaultdict() -> Any:
    """A stand-in for collections.defaultdict that makes a plain dict and calls no factory."""

    def defaultdict(factory: Any = None) -> dict[Any, Any]:
        return {}

    defaultdict.__module__, defaultdict.__qualname__ = "collections", "defaultdict"
    return defaultdict
