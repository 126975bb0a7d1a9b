"""The refiner and its measures in loops over single numbers, in double precision."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from scripts.probing.reads import random_entries

Vector = list[float]


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def norm(rows: Sequence[Vector]) -> float:
    return math.sqrt(sum(x * x for row in rows for x in row))


def mean(rows: Sequence[Vector]) -> Vector:
    return [sum(values) / len(rows) for values in zip(*rows, strict=True)]


def unit(row: Vector) -> Vector:
    size = norm([row])
    return [x / size for x in row]


def cosine(a: Vector, b: Vector) -> float:
    return dot(unit(a), unit(b))


def share(rows: Sequence[Vector]) -> float:
    """Return the norm of the deviation from the mean row over the norm."""
    middle = mean(rows)
    return norm([[x - m for x, m in zip(row, middle, strict=True)] for row in rows]) / norm(rows)


def weights(row: Vector, entries: Sequence[Vector], scale: float) -> Vector:
    powers = [math.exp(scale * dot(row, entry)) for entry in entries]
    return [power / sum(powers) for power in powers]


def entropy(values: Vector) -> float:
    return -sum(w * math.log(w) for w in values)


class Measures(NamedTuple):
    """Of one text (C, d): texts by version, weights (C, M), R (C, d) and alpha W2 R (C, d)."""

    versions: dict[str, list[Vector]]
    weights: list[Vector]
    read: list[Vector]
    added: list[Vector]


def measures(refiner: Any, text: Tensor, seed: int) -> Measures:
    """Return what a plain refiner (without controls) computes from T, (C, d)."""
    rows, entries = text.tolist(), refiner.cache.entries.tolist()
    matrix, dim = refiner.aggregate.weight.tolist(), text.shape[1]
    scale, alpha = refiner.cache.scale, refiner.alpha

    def read_from(cache: list[Vector]) -> list[Vector]:
        found = []
        for row in rows:
            chosen = weights(row, cache, scale)
            found.append([dot(chosen, [entry[k] for entry in cache]) for k in range(dim)])
        return found

    def added(read: Vector) -> Vector:
        return [alpha * dot(line[dim:], read) for line in matrix]

    def refined(reads: list[Vector]) -> list[Vector]:
        found = []
        for row, read in zip(rows, reads, strict=True):
            both = row + read
            found.append([row[k] + alpha * dot(matrix[k], both) for k in range(dim)])
        return found

    read, count = read_from(entries), len(rows)
    model = refined(read)
    versions = {
        "model": model,
        "plain": rows,
        "renormalized": [unit(row) for row in model],
        "mean": refined([mean(read)] * count),
        "zero": refined([[0.0] * dim] * count),
        "cache_mean": refined([mean(entries)] * count),
        "random": refined(read_from(random_entries(refiner.cache.entries, seed).tolist())),
    }
    chosen = [weights(row, entries, scale) for row in rows]
    return Measures(versions, chosen, read, [added(row) for row in read])
