"""Statistics of one table cell: the accuracies of one method in one column, by seed.

    Cell({1: 70.0, 2: 72.0, 3: 74.0}).mean, .std     # 72.0, 2.0

The mean is None if a seed is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, harmonic_mean, median, stdev

COLLAPSE = 15.0


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


def _combine(cells: Sequence[Cell], mean: Callable[[list[float]], float]) -> CombinedCell:
    means = [cell.mean for cell in cells if cell.mean is not None]
    seeds = [seed for seed in cells[0].values if all(seed in cell.values for cell in cells)]
    return CombinedCell(
        values={seed: mean([cell.values[seed] for cell in cells]) for seed in seeds},
        missing=tuple(sorted({seed for cell in cells for seed in cell.missing})),
        conflicting=tuple(sorted({seed for cell in cells for seed in cell.conflicting})),
        of_means=mean(means) if len(means) == len(cells) else None,
    )
