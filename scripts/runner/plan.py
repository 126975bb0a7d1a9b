"""Which jobs a protocol consists of.

plan(Request("coop", "base2new", "dtd", seed=1), place)  # [training, test on the new classes]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from dassl.utils import UsageError, nearest
from scripts.runner.job import Job, Request, Workspace
from scripts.runner.planner import Planner

# Set by the protocol and part of a folder's name: as a KEY VALUE pair they would make it lie.
OWN_KEYS = {
    "DATASET.NUM_SHOTS": "choose them with SHOTS in the environment",
    "DATASET.SUBSAMPLE_CLASSES": "the protocol chooses the classes",
    "DATASET.NAME": "choose the dataset with DATASET",
    "DATASET.ROOT": "choose the folder with DATA in the environment",
    "OUTPUT_DIR": "choose the folder with OUTPUT in the environment",
    "SEED": "choose it with SEED",
    "TRAINER.NAME": "METHOD and configs/protocols.yaml choose the trainer",
    "TRAINER.MODAL": "the protocol chooses it",
}


def plan(request: Request, place: Workspace) -> list[Job]:
    """The jobs of ``request``, in the order in which they must run.

    Raises:
        UsageError: an unknown method, protocol, dataset or config, or a key of `OWN_KEYS`.
    """
    table, source = place.table, request.source or place.table.source(request.dataset)
    for what, name, known in (
        ("method", request.method, table.methods),
        ("protocol", request.protocol, list(PLANS)),
        ("dataset", request.dataset, place.datasets),
        ("source dataset", source, place.datasets),
    ):
        if name not in known:
            raise UsageError(f"unknown {what} {name!r}: {nearest(name, known)}")
    own = protocols_of(request.method, place)
    if request.protocol not in own:
        raise UsageError(
            f"{request.method} has no protocol {request.protocol!r} in configs/protocols.yaml: "
            f"{nearest(request.protocol, own)}"
        )
    for key in request.options:
        if key in OWN_KEYS:
            raise UsageError(f"{key} cannot be a KEY VALUE pair here: {OWN_KEYS[key]}")
    planner = Planner(replace(request, source=source), place)
    return PLANS[request.protocol].jobs(planner)


def protocols_of(method: str, place: Workspace) -> list[str]:
    """What `plan` knows of ``method``: the names of its scripts."""
    table = place.table
    entries = table.protocols(method)
    distils = "xd" in entries and table.setting(method, "xd", "").teacher != ""
    return [
        name
        for name, protocol in PLANS.items()
        # A student is tested where it was distilled: there is no other test.
        if protocol.entry in entries and not (name == "xd_test" and distils)
    ]


class Protocol(NamedTuple):
    """A protocol by its jobs, and the entry of a method in the table that sets it."""

    jobs: Callable[[Planner], list[Job]]
    entry: str


PLANS = {
    "base2new": Protocol(Planner.base2new, "base2new"),
    "base2new_train": Protocol(Planner.base2new_train, "base2new"),
    "base2new_test": Protocol(Planner.base2new_test, "base2new"),
    "xd": Protocol(Planner.xd, "xd"),
    "xd_train": Protocol(Planner.xd_train, "xd"),
    "xd_test": Protocol(Planner.xd_test, "xd"),
    "dg": Protocol(Planner.dg, "xd"),
    "fewshot": Protocol(Planner.fewshot, "fewshot"),
    "zeroshot": Protocol(Planner.zeroshot, "zeroshot"),
    "teacher": Protocol(Planner.teacher, "teacher"),
    "teacher_xd": Protocol(Planner.teacher_xd, "teacher_xd"),
}
