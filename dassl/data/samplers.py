"""Samplers: the order in which a loader visits its images."""

from collections.abc import Hashable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, RandomSampler, Sampler, SequentialSampler
from yacs.config import CfgNode

from dassl.utils import UsageError, nearest

from .datasets import Datum


class GroupSampler(Sampler[int]):
    """Batches of ``groups_per_batch`` groups (domains or classes) with ``images`` images each.

    Every batch has the groups with the most images left, ties in random order. The epoch ends when
    too few groups are left for a batch, so its length is the same in every epoch.

    ``keys`` are the groups of all images. Groups are in random order within a batch, or sorted
    without ``shuffle_groups``. ``generator`` None is torch's global generator.
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
                f"a batch of {groups_per_batch} groups (domains or classes) cannot be sampled from "
                f"{len(self.groups)}: change the batch size or DATALOADER.*.N_DOMAIN or N_INS"
            )
        self.groups_per_batch = groups_per_batch
        self.images = images
        self.shuffle_groups = shuffle_groups
        self.generator = generator
        self.length = sum(1 for _ in self._batches()) * groups_per_batch * images

    def _batches(self) -> Iterator[list[Any]]:
        """Yield the groups of each batch."""
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
        """Return a group's images in random order; a group that is too small repeats some."""
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


class RandomDomainSampler(GroupSampler):
    """``n_domain`` random domains per batch (all if not positive), with equally many images."""

    def __init__(
        self,
        data_source: Sequence[Datum],
        batch_size: int,
        n_domain: int | None = None,
        generator: torch.Generator | None = None,
        shuffle_groups: bool = True,
    ) -> None:
        domains = [item.domain for item in data_source]
        n_domain = n_domain if n_domain and n_domain > 0 else len(set(domains))
        if batch_size % n_domain:
            raise UsageError(
                f"a batch of {batch_size} images cannot be divided evenly among {n_domain} "
                "domains: set BATCH_SIZE to a multiple of N_DOMAIN"
            )
        images = batch_size // n_domain
        for domain in sorted(set(domains)):
            if domains.count(domain) < images:
                raise UsageError(
                    f"domain {domain} has {domains.count(domain)} images, but a batch needs "
                    f"{images}: lower BATCH_SIZE"
                )
        super().__init__(domains, n_domain, images, shuffle_groups, generator)


class SeqDomainSampler(RandomDomainSampler):
    """All domains in every batch, in their order, with equally many random images of each."""

    def __init__(
        self,
        data_source: Sequence[Datum],
        batch_size: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(data_source, batch_size, generator=generator, shuffle_groups=False)


class RandomClassSampler(GroupSampler):
    """``batch_size // n_ins`` random classes per batch with ``n_ins`` images of each.

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
            raise UsageError(f"N_INS must be from 1 to BATCH_SIZE ({batch_size}), got {n_ins}")
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
    """Build the sampler named ``sampler_type``; ``cfg`` is unused, as in the original signature.

    Raises:
        UsageError: an unknown name, or batches that the data cannot fill.
    """
    source = data_source if data_source is not None else []
    builders = {
        "RandomSampler": lambda: RandomSampler(source, generator=generator),
        "SequentialSampler": lambda: SequentialSampler(source),
        "RandomDomainSampler": lambda: RandomDomainSampler(source, batch_size, n_domain, generator),
        "SeqDomainSampler": lambda: SeqDomainSampler(source, batch_size, generator),
        "RandomClassSampler": lambda: RandomClassSampler(source, batch_size, n_ins, generator),
    }
    if sampler_type not in builders:
        raise UsageError(f"unknown sampler {sampler_type!r}: {nearest(sampler_type, builders)}")
    return builders[sampler_type]()


class BatchSlices(Sampler[int]):
    """The slice of every full batch for process ``rank`` of ``world_size``, for training."""

    def __init__(self, sampler: Sampler[int], batch_size: int, rank: int, world_size: int) -> None:
        self.batches = BatchSampler(sampler, batch_size, drop_last=True)
        self.share = batch_size // world_size
        self.start = self.share * rank

    def __iter__(self) -> Iterator[int]:
        for batch in self.batches:
            yield from batch[self.start : self.start + self.share]

    def __len__(self) -> int:
        return len(self.batches) * self.share


class BatchTurns(Sampler[int]):
    """Every ``world_size``-th batch from ``rank`` on, for testing: batches stay whole."""

    def __init__(self, sampler: Sampler[int], batch_size: int, rank: int, world_size: int) -> None:
        assert isinstance(sampler, Sized)
        self.batches = BatchSampler(sampler, batch_size, drop_last=False)
        self.rank, self.world_size = rank, world_size
        starts = range(0, len(sampler), batch_size)[rank::world_size]
        self.length = sum(min(batch_size, len(sampler) - start) for start in starts)

    def __iter__(self) -> Iterator[int]:
        for batch in islice(self.batches, self.rank, None, self.world_size):
            yield from batch

    def __len__(self) -> int:
        return self.length
