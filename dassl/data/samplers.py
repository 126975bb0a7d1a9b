"""Orders in which a loader visits its images."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any

import torch
from torch.utils.data import RandomSampler, Sampler, SequentialSampler
from yacs.config import CfgNode

from dassl.utils import UsageError, nearest

from .datasets import Datum

SAMPLERS = [
    "RandomSampler",
    "SequentialSampler",
    "RandomDomainSampler",
    "SeqDomainSampler",
    "RandomClassSampler",
]


class GroupSampler(Sampler[int]):
    """Batches of ``groups_per_batch`` groups (domains or classes) with ``images`` images of each.

    Every batch takes the groups that have most images left, ties in random order; the epoch ends
    when too few groups are left for a batch. So its length is the same in every epoch.

    Args:
        keys: the group of each image.
        groups_per_batch: how many different groups a batch holds.
        images: how many images of each.
        shuffle_groups: whether groups come in random order within a batch, or sorted.
        generator: the source of randomness; torch's global one if None.
    """

    def __init__(
        self,
        keys: Sequence[Hashable],
        groups_per_batch: int,
        images: int,
        shuffle_groups: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        self.groups: dict[Any, list[int]] = {}
        for index, key in enumerate(keys):
            self.groups.setdefault(key, []).append(index)
        if not 1 <= groups_per_batch <= len(self.groups):
            raise UsageError(
                f"a batch of {groups_per_batch} groups (domains or classes) cannot be drawn from "
                f"{len(self.groups)}: change the batch size or DATALOADER.*.N_DOMAIN or N_INS"
            )
        self.groups_per_batch = groups_per_batch
        self.images = images
        self.shuffle_groups = shuffle_groups
        self.generator = generator
        self.length = sum(1 for _ in self._batches()) * groups_per_batch * images

    def _batches(self) -> Iterator[list[Any]]:
        """The groups of each batch."""
        left = {key: max(1, len(ids) // self.images) for key, ids in self.groups.items()}
        while len(left) >= self.groups_per_batch:
            keys = list(left)
            keys = [keys[i] for i in torch.randperm(len(keys), generator=self.generator).tolist()]
            chosen = sorted(keys, key=lambda key: -left[key])[: self.groups_per_batch]
            for key in chosen:
                left[key] -= 1
                if not left[key]:
                    del left[key]
            yield chosen if self.shuffle_groups else sorted(chosen)

    def _shuffled(self, ids: list[int]) -> Iterator[int]:
        """The images of a group in random order; a group of too few is filled by repetition."""
        order = torch.randperm(len(ids), generator=self.generator).tolist()
        missing = max(0, self.images - len(ids))
        order += torch.randint(len(ids), (missing,), generator=self.generator).tolist()
        return iter([ids[i] for i in order])

    def __iter__(self) -> Iterator[int]:
        queues = {key: self._shuffled(ids) for key, ids in self.groups.items()}
        for batch in self._batches():
            for key in batch:
                yield from (next(queues[key]) for _ in range(self.images))

    def __len__(self) -> int:
        return self.length


def _images_per_domain(domains: Sequence[int], batch_size: int, n_domain: int) -> int:
    if batch_size % n_domain:
        raise UsageError(
            f"a batch of {batch_size} images cannot be shared evenly by {n_domain} domains: "
            "set BATCH_SIZE to a multiple of N_DOMAIN"
        )
    images = batch_size // n_domain
    for domain in sorted(set(domains)):
        if domains.count(domain) < images:
            raise UsageError(
                f"domain {domain} has {domains.count(domain)} images, a batch takes {images}: "
                "lower BATCH_SIZE"
            )
    return images


class RandomDomainSampler(GroupSampler):
    """``n_domain`` random domains a batch (all of them if not positive), equally many images."""

    def __init__(
        self,
        data_source: Sequence[Datum],
        batch_size: int,
        n_domain: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        domains = [item.domain for item in data_source]
        n_domain = n_domain if n_domain and n_domain > 0 else len(set(domains))
        images = _images_per_domain(domains, batch_size, n_domain)
        super().__init__(domains, n_domain, images, generator=generator)


class SeqDomainSampler(GroupSampler):
    """All domains in every batch, in their order, with equally many random images of each."""

    def __init__(
        self,
        data_source: Sequence[Datum],
        batch_size: int,
        generator: torch.Generator | None = None,
    ) -> None:
        domains = [item.domain for item in data_source]
        n_domain = len(set(domains))
        images = _images_per_domain(domains, batch_size, n_domain)
        super().__init__(domains, n_domain, images, shuffle_groups=False, generator=generator)


class RandomClassSampler(GroupSampler):
    """``batch_size // n_ins`` random classes a batch with ``n_ins`` images of each.

    A class with fewer than ``n_ins`` images repeats some.
    """

    def __init__(
        self,
        data_source: Sequence[Datum],
        batch_size: int,
        n_ins: int,
        generator: torch.Generator | None = None,
    ) -> None:
        if not 1 <= n_ins <= batch_size:
            raise UsageError(f"N_INS is {n_ins}: 1 to BATCH_SIZE ({batch_size}) is allowed")
        labels = [item.label for item in data_source]
        super().__init__(labels, batch_size // n_ins, n_ins, generator=generator)


def build_sampler(
    sampler_type: str,
    cfg: CfgNode | None = None,
    data_source: Sequence[Datum] | None = None,
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
    generator: torch.Generator | None = None,
) -> Sampler[int]:
    """The sampler of that name over ``data_source``.

    ``cfg`` is not used; it is part of the signature that callers of the original know.

    Raises:
        UsageError: an unknown name, or batches that the data cannot fill.
    """
    source = data_source if data_source is not None else []
    if sampler_type == "RandomSampler":
        return RandomSampler(source, generator=generator)
    if sampler_type == "SequentialSampler":
        return SequentialSampler(source)
    if sampler_type == "RandomDomainSampler":
        return RandomDomainSampler(source, batch_size, n_domain, generator)
    if sampler_type == "SeqDomainSampler":
        return SeqDomainSampler(source, batch_size, generator)
    if sampler_type == "RandomClassSampler":
        return RandomClassSampler(source, batch_size, n_ins, generator)
    raise UsageError(f"unknown sampler {sampler_type!r}: {nearest(sampler_type, SAMPLERS)}")


class _PartOfBatches(Sampler[int]):
    """What process ``rank`` of ``world_size`` takes of the batches of ``sampler``."""

    def __init__(
        self, sampler: Sampler[int], batch_size: int, rank: int, world_size: int
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size

    def _batches(self) -> Iterator[list[int]]:
        order = iter(self.sampler)
        while batch := list(islice(order, self.batch_size)):
            yield batch

    @property
    def _images(self) -> int:
        assert isinstance(self.sampler, Sized)
        return len(self.sampler)


class BatchSlices(_PartOfBatches):
    """An equal slice of every full batch, for training: N slices are the batch of one process."""

    def __iter__(self) -> Iterator[int]:
        share = self.batch_size // self.world_size
        for batch in self._batches():
            if len(batch) == self.batch_size:
                yield from batch[share * self.rank : share * (self.rank + 1)]

    def __len__(self) -> int:
        return self._images // self.batch_size * (self.batch_size // self.world_size)


class BatchTurns(_PartOfBatches):
    """Every N-th batch, whole, for tests: each batch is computed as one process computes it."""

    def __iter__(self) -> Iterator[int]:
        for batch in islice(self._batches(), self.rank, None, self.world_size):
            yield from batch

    def __len__(self) -> int:
        starts = range(0, self._images, self.batch_size)[self.rank :: self.world_size]
        return sum(min(self.batch_size, self._images - start) for start in starts)
