"""Change values in nested containers of tensors, where changes of bytes rarely reach.

A mutant of the harness is a few bytes here, which seed the changes.
"""

import copy
import random
from typing import Any

import torch

UNCHANGED = bytes(8)  # the seed of the harness: no change


def changed(content: Any, seed: bytes) -> Any:
    """Return a copy of nested dicts, lists and tensors with one to three random changes."""
    if seed == UNCHANGED:
        return content
    rng, result = random.Random(seed), copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(result))
        if not places:
            break
        owner, key = rng.choice(places)
        kind = rng.randrange(10)
        if kind == 0:
            del owner[key]
        elif kind == 1 and isinstance(owner, dict):
            owner[_value(rng, key)] = owner.pop(key)
        elif isinstance(owner[key], torch.Tensor) and kind < 8:
            owner[key] = _tensor(owner[key], rng)
        else:
            owner[key] = _value(rng, owner[key])
    return result


def _places(container: Any) -> Any:
    for key, value in container.items() if isinstance(container, dict) else enumerate(container):
        yield container, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def _value(rng: random.Random, old: Any) -> Any:
    values = (
        None, True, -1, 0, 2**63, 10**30, 1.5, float("nan"), float("inf"), "", "x", "x" * 5000,
        (), ((((),),),), torch.zeros(0), torch.tensor(3), torch.ones(2, 3), torch.ones(2).long(),
    )  # fmt: skip
    return rng.choice((*values, old) if _hashable(old) else values)


def _hashable(value: Any) -> bool:
    return isinstance(value, (int, float, str, tuple))


def _tensor(value: torch.Tensor, rng: random.Random) -> torch.Tensor:
    full = torch.full_like
    changes = (
        lambda: full(value, float("nan")) if value.is_floating_point() else full(value, -(2**31)),
        lambda: full(value, float("-inf")) if value.is_floating_point() else full(value, 2**31 - 1),
        lambda: -value,
        lambda: value.long(),
        lambda: value.bool(),
        lambda: value.double(),
        lambda: value.to(torch.complex64),
        lambda: value[None],
        lambda: value.flatten(),
        lambda: value.flatten()[:1].squeeze(),
        lambda: value[:0] if value.dim() else value[None],
        lambda: value[:1] if value.dim() else value[None],
        lambda: torch.cat([value, value]) if value.dim() else value[None],
        lambda: value.t().contiguous() if value.dim() == 2 else value,
        lambda: torch.zeros(0),
    )
    return rng.choice(changes)()
