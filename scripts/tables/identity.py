"""Tell runs apart that were tested on other data, or with another CLIP, under the same name."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.tables.load import Run


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """Return the runs with names that differ where their data or their CLIP's weights differ.

    Two datasets of one name get their roots, or hashes of their test images, in addition; two CLIPs
    of one name the digests of their fingerprints. Results without these records keep their names.
    """
    data_names, clip_names = {}, {}
    for members in _by(runs, lambda run: run.dataset):
        roots: dict[str, list[Run]] = {}
        for run in members:
            if run.data:
                roots.setdefault(run.data["root"], []).append(run)
        if _is_one(members):
            continue
        for root, own in roots.items():
            for run in own:
                more = "" if _is_one(own) else f", images {_images(run)[:8]}"
                data_names[run.folder] = f"{run.dataset} ({root}{more})"
    for members in _by(runs, lambda run: run.backbone):
        if len({run.clip for run in members} - {""}) > 1:
            for run in members:
                if run.clip:
                    clip_names[run.folder] = f"{run.backbone} (weights {run.clip})"
    return [
        replace(
            run,
            dataset=data_names.get(run.folder, run.dataset),
            backbone=clip_names.get(run.folder, run.backbone),
        )
        for run in runs
    ]


def _is_one(runs: Sequence[Run]) -> bool:
    """Return whether these runs were tested on the same data, as far as it was recorded."""
    known = [run for run in runs if run.data]
    classes = {tuple(run.data["all_classes"]) for run in known if run.data}
    parts = _by(known, lambda run: (run.classes, run.split))
    return len(classes) <= 1 and all(len({_images(run) for run in part}) == 1 for part in parts)


def _images(run: Run) -> str:
    """Return the hash of the tested images."""
    part = (run.data or {}).get(run.split)
    return part["sha256"] if part else ""


def _by(runs: Iterable[Run], key: Callable[[Run], Hashable]) -> list[list[Run]]:
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(groups.values())
