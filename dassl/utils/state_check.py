"""Check the states in a checkpoint before an optimizer or a random generator takes them over.

`load_state_dict` of torch accepts momentum buffers of any shape and settings of any type, which
then fail in the first step, or train something else.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def optimizer_problem(optimizer: torch.optim.Optimizer, state: Any) -> str:
    """Return why ``state`` is no state of ``optimizer``, or ""."""
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= state.keys():
        return "it has no state and param_groups"
    groups, own_groups = state["param_groups"], optimizer.param_groups
    if not isinstance(groups, list) or len(groups) != len(own_groups):
        return f"it must have {len(own_groups)} parameter groups"
    own_parameters: list[Tensor] = []
    indices: list[Any] = []
    for group, own in zip(groups, own_groups, strict=True):
        if not isinstance(group, Mapping) or not isinstance(group.get("params"), list):
            return "a parameter group has no list of parameters"
        if len(group["params"]) != len(own["params"]):
            return f"a group has {len(group['params'])} parameters instead of {len(own['params'])}"
        for key in (own.keys() & group.keys()) - {"params"}:
            if not _same_kind(own[key], group[key]):
                return f"{key} is {group[key]!r:.60}, expected a value like {own[key]!r}"
        own_parameters += own["params"]
        indices += group["params"]
    if not isinstance(state["state"], Mapping):
        return "its state is not a dict"
    known = {index: parameter for index, parameter in zip(indices, own_parameters, strict=True)
             if isinstance(index, int)}  # fmt: skip
    for index, buffers in state["state"].items():
        if index not in known or not isinstance(buffers, Mapping):
            return f"its parameter {index!r:.40} is unknown"
        for name, value in buffers.items():
            problem = _buffer_problem(name, value, known[index])
            if problem:
                return f"{name} of parameter {index} {problem}"
    return ""


def missing_settings(known: list[set[str]], optimizer: Any) -> str:
    """Return which of the ``known`` settings of its groups an optimizer has lost, or ""."""
    for keys, group in zip(known, getattr(optimizer, "param_groups", []), strict=True):
        if keys - group.keys():
            return f"a parameter group has no {', '.join(sorted(keys - group.keys()))}"
    return ""


def _buffer_problem(name: Any, value: Any, parameter: Tensor) -> str:
    if value is None:
        return ""
    if name == "step" and isinstance(value, int | float):  # in files of torch 1.x
        return "" if math.isfinite(value) else f"is {value}"
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__}, not a tensor"
    if value.dim() > 0 and value.shape != parameter.shape:
        return f"has shape {tuple(value.shape)}, the parameter {tuple(parameter.shape)}"
    if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
        return "is not finite floating point"
    return ""


def _same_kind(own: Any, value: Any) -> bool:
    """Return whether a setting in a file has the type of the one in use; numbers are finite."""
    if own is None or value is None:  # a switch such as foreach
        return all(v is None or isinstance(v, bool) for v in (own, value))
    if isinstance(own, bool) or isinstance(value, bool):
        return isinstance(own, bool) and isinstance(value, bool)
    if isinstance(own, int | float):
        return isinstance(value, int | float) and math.isfinite(value)
    if isinstance(own, tuple | list):
        return (
            isinstance(value, tuple | list)
            and len(value) == len(own)
            and all(map(_same_kind, own, value))
        )
    return isinstance(value, type(own))


def random_state_problem(state: Any) -> str:
    """Return why ``state`` is no result of `get_random_state`, or ""."""
    if not isinstance(state, Mapping) or not {"python", "numpy", "torch", "cuda"} <= state.keys():
        return "it has no python, numpy, torch and cuda states"
    python, numpy, torch_state, cuda = (state[k] for k in ("python", "numpy", "torch", "cuda"))
    if not (isinstance(python, tuple | list) and len(python) == 3 and _are_words(python[1], 625)):
        return "the state of Python's generator has another form"
    if not (isinstance(numpy, tuple | list) and len(numpy) == 5 and numpy[0] == "MT19937"):
        return "the state of NumPy's generator has another form"
    keys, position, has_gauss, gauss = numpy[1:]
    if not (
        isinstance(keys, Tensor)
        and keys.dtype == torch.int64
        and keys.shape == (624,)
        and type(position) is int
        and 0 <= position <= 624
        and type(has_gauss) is int
        and type(gauss) is float
    ):
        return "the state of NumPy's generator has another form"
    if not _is_bytes(torch_state) or torch_state.shape != torch.get_rng_state().shape:
        return "the state of torch's generator has another form"
    if not (isinstance(cuda, list) and all(map(_is_bytes, cuda))):
        return "the states of the GPUs have another form"
    return ""


def _are_words(values: Any, count: int) -> bool:
    return (
        isinstance(values, tuple | list)
        and len(values) == count
        and all(type(word) is int and 0 <= word < 2**32 for word in values)
    )


def _is_bytes(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.uint8 and value.dim() == 1
