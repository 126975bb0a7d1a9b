"""A grid of methods, datasets and seeds as chains of jobs.

chains = grid(["coop", "TextRefinerCoOp"], ["dtd"], [1, 2, 3], ["base2new"], {}, place)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dassl.utils import UsageError, nearest
from scripts.runner.job import Job, Request, Workspace
from scripts.runner.plan import plan


@dataclass
class Chain:
    """Jobs that must follow one another; different chains are independent.

    Attributes:
        position: the next job's place.
    """

    jobs: Sequence[Job]
    position: int = 0

    @property
    def job(self) -> Job:
        """The job that is next."""
        return self.jobs[self.position]


def grid(
    methods: Sequence[str],
    datasets: Sequence[str],
    seeds: Sequence[int],
    protocols: Sequence[str],
    options: Mapping[str, str],
    place: Workspace,
) -> list[Chain]:
    """One chain for each method, protocol, dataset and seed; the seeds vary slowest, so that a
    sweep that is stopped early has whole columns of its table.

    Args:
        methods: entries of configs/protocols.yaml, or their registered trainers' names.
        options: KEY VALUE pairs for every job.

    Raises:
        UsageError: an unknown name.
    """
    requests = [
        Request(method, protocol, dataset, seed, options)
        for seed in seeds
        for protocol in protocols
        for dataset in datasets
        for method in (method_name(name, place) for name in methods)
    ]
    return [Chain(jobs) for jobs in (plan(request, place) for request in requests) if jobs]


def method_name(name: str, place: Workspace) -> str:
    """A method by its own name or by its trainer's.

    Raises:
        UsageError: neither.
    """
    by_trainer = {place.table.trainer(method): method for method in place.table.methods}
    if name in place.table.methods:
        return name
    if name not in by_trainer:
        known = [*place.table.methods, *by_trainer]
        raise UsageError(f"unknown method or trainer {name!r}: {nearest(name, known)}")
    return by_trainer[name]
