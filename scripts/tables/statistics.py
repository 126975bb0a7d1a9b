"""Statistics of one table cell: the accuracies of one method in one column, by seed.

    Cell({1: 70.0, 2: 72.0, 3: 74.0}).mean, .std     # 72.0, 2.0
    paired({1: 70.0, 2: 72.0}, {1: 69.0, 2: 69.0})   # differences 1.0 and 3.0, mean 2.0

The mean is None if a seed is missing.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from statistics import fmean, harmonic_mean, median, stdev
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)

COLLAPSE = 15.0
CONFIDENCE = 0.95
DIGITS = 9  # of differences: equal accuracies may differ in their last bits after a mean


@dataclass(frozen=True)
class Cell:
    """Accuracies in percent by seed."""

    values: Mapping[int, float]
    missing: tuple[int, ...] = ()  # expected seeds without a result
    conflicting: tuple[int, ...] = ()  # seeds with two different results, none of them in values

    @property
    def is_complete(self) -> bool:
        return bool(self.values) and not self.missing and not self.conflicting

    @property
    def mean(self) -> float | None:
        """The average over the seeds."""
        return fmean(self.values.values()) if self.is_complete else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation (n - 1) over the seeds; None for fewer than two."""
        return stdev(self.values.values()) if self.is_complete and len(self.values) > 1 else None

    def collapsed(self) -> list[int]:
        """Return the seeds more than 15 points below the median of the others.

        Seeds of prompt learning differ by a few points; 12 % beside 63 % is a failed training, as
        reported for DTD and EuroSAT. The median of the other seeds does not depend on the seed in
        question, nor on a second failed seed out of four.
        """
        return [
            seed
            for seed, value in self.values.items()
            if len(self.values) > 1
            and value < median(v for s, v in self.values.items() if s != seed) - COLLAPSE
        ]


@dataclass(frozen=True)
class CombinedCell(Cell):
    """A harmonic mean, or a mean over datasets, of several cells' averages.

    As in the papers, ``mean`` is computed from those averages; ``values`` and ``std`` are computed
    seed by seed.
    """

    of_means: float | None = None

    @property
    def mean(self) -> float | None:
        return self.of_means


def harmonic(base: Cell, new: Cell) -> CombinedCell:
    """Return the H cell of a row: the harmonic mean of its averaged base and new accuracies."""
    return _combine([base, new], harmonic_mean)


def average(cells: Sequence[Cell]) -> CombinedCell:
    """Return the mean over datasets of their averages; None if one of them has none."""
    return _combine(cells, fmean)


def published(value: float) -> CombinedCell:
    """Return the cell of a paper's number: an average without seeds."""
    return CombinedCell({}, of_means=value)


@dataclass(frozen=True)
class Paired:
    """Differences of two methods, pair by pair: the same dataset and seed in both."""

    differences: Mapping[Any, float]

    @property
    def mean(self) -> float | None:
        """The mean difference; None without a pair."""
        return fmean(self.differences.values()) if self.differences else None

    @property
    def higher(self) -> int:
        """The number of pairs in which the first is higher."""
        return sum(value > 0 for value in self.differences.values())

    @property
    def equal(self) -> int:
        """The number of pairs with equal values."""
        return sum(value == 0 for value in self.differences.values())

    @property
    def p_value(self) -> float:
        """The p-value of the sign test: exact, two-sided, without equal pairs.

        The probability that at least as many of n fair coins agree. It is at least 2 / 2^n: with
        fewer than 6 pairs it cannot be below 0.05.
        """
        count = len(self.differences) - self.equal
        fewer = min(self.higher, count - self.higher)
        return min(1.0, 2 * sum(comb(count, i) for i in range(fewer + 1)) / 2**count)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of the mean difference, by Student's t; None for one pair.

        It assumes independent pairs with normally distributed differences.
        """
        count = len(self.differences)
        if count < 2 or self.mean is None:
            return None
        from scipy.special import stdtrit  # slow to import

        quantile = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
        half = quantile * stdev(self.differences.values()) / sqrt(count)
        return self.mean - half, self.mean + half


def paired(one: Mapping[Key, float], other: Mapping[Key, float]) -> Paired:
    """Return ``one`` minus ``other`` in every key of both."""
    shared = [key for key in one if key in other]
    return Paired({key: round(one[key] - other[key], DIGITS) for key in shared})


def _combine(cells: Sequence[Cell], mean: Callable[[list[float]], float]) -> CombinedCell:
    means = [cell.mean for cell in cells if cell.mean is not None]
    seeds = [seed for seed in cells[0].values if all(seed in cell.values for cell in cells)]
    return CombinedCell(
        values={seed: mean([cell.values[seed] for cell in cells]) for seed in seeds},
        missing=tuple(sorted({seed for cell in cells for seed in cell.missing})),
        conflicting=tuple(sorted({seed for cell in cells for seed in cell.conflicting})),
        of_means=mean(means) if len(means) == len(cells) else None,
    )
