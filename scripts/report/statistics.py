"""The statistics of one table cell: the accuracies of one method in one column, by seed.

    Cell({1: 70.0, 2: 72.0, 3: 74.0}).mean, .std     # 72.0, 2.0

A mean is never taken around a missing seed: it is None until all seeds are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, harmonic_mean, median, stdev

COLLAPSE = 15.0


@dataclass(frozen=True)
class Cell:
    """Accuracies in percent by seed.

    Attributes:
        missing: seeds that are expected and not there.
        conflicting: seeds with two different results, none of which is in ``values``.
    """

    values: Mapping[int, float]
    missing: tuple[int, ...] = ()
    conflicting: tuple[int, ...] = ()

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
        """Seeds more than 15 points below the median of the others.

        Seed spread of prompt learning is a few points, 12 % beside 63 % a training that broke (as
        users report from DTD and EuroSAT). The median of the *others* is what the seed should have
        reached: it does not move with the seed in question, nor with one more broken seed of four.
        """
        return [
            seed
            for seed, value in self.values.items()
            if len(self.values) > 1
            and value < median(v for s, v in self.values.items() if s != seed) - COLLAPSE
        ]


@dataclass(frozen=True)
class CombinedCell(Cell):
    """A number made of several cells' averages: a harmonic mean, or a mean over datasets.

    ``mean`` is made of those averages, as in the papers; ``values`` and ``std`` are of the same
    number made seed by seed.
    """

    of_means: float | None = None

    @property
    def mean(self) -> float | None:
        return self.of_means


def harmonic(base: Cell, new: Cell) -> CombinedCell:
    """The H column of a row, from its base and new columns.

    Its mean is the harmonic mean of the two averages over the seeds, as in the papers, not the
    average of the seeds' harmonic means.
    """
    seeds = [seed for seed in base.values if seed in new.values]
    means = (base.mean, new.mean)
    return CombinedCell(
        values={seed: harmonic_mean([base.values[seed], new.values[seed]]) for seed in seeds},
        missing=tuple(sorted({*base.missing, *new.missing})),
        conflicting=tuple(sorted({*base.conflicting, *new.conflicting})),
        of_means=None if None in means else harmonic_mean([m for m in means if m is not None]),
    )


def average(cells: Sequence[Cell]) -> CombinedCell:
    """The mean over datasets: that of their averages; None where one of them has none."""
    means = [cell.mean for cell in cells if cell.mean is not None]
    seeds = [seed for seed in cells[0].values if all(seed in cell.values for cell in cells)]
    return CombinedCell(
        values={seed: fmean(cell.values[seed] for cell in cells) for seed in seeds},
        missing=tuple(sorted({seed for cell in cells for seed in cell.missing})),
        conflicting=tuple(sorted({seed for cell in cells for seed in cell.conflicting})),
        of_means=fmean(means) if len(means) == len(cells) else None,
    )


def published(value: float) -> CombinedCell:
    """A number of a paper: an average without seeds."""
    return CombinedCell({}, of_means=value)
