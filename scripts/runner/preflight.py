"""Find what jobs need and what is not there yet: datasets, weights, teachers.

Only the presence of files is checked; their contents are not read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from clip import openai
from clip.weights import available_models
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine.run_records import is_finished
from scripts.runner.job import Job, Workspace

_REGISTERED = datasets  # imported for its registrations

# Besides image folder and split file, relative to the folder of the dataset.
FILES = {
    "ImageNet": ("images/train", "images/val", "classnames.txt"),
    "ImageNetV2": ("classnames.txt",),
    "ImageNetSketch": ("classnames.txt",),
    "ImageNetA": ("classnames.txt",),
    "ImageNetR": ("classnames.txt",),
    "FGVCAircraft": (
        "variants.txt",
        *(f"images_variant_{part}.txt" for part in ("train", "val", "test")),
    ),
}


@dataclass(frozen=True)
class Need:
    """One missing thing and the jobs that wait for it."""

    line: str  # what is missing and where to get it
    blocks: bool  # whether its jobs cannot run; otherwise it will be downloaded or trained
    jobs: Sequence[Job]


def needs(jobs: Sequence[Job], workspace: Workspace) -> list[Need]:
    """Return what the unfinished ``jobs`` need: what blocks them first."""
    unfinished = [job for job in jobs if not is_finished(job.folder)]
    found: dict[tuple[str, bool], list[Job]] = {}
    for job in unfinished:
        backbone = job.settings(workspace).get("MODEL.BACKBONE.NAME", "")
        for need in (
            *_data(job, workspace),
            *_weights(backbone, workspace),
            *_teacher(job, workspace, unfinished),
        ):
            found.setdefault(need, []).append(job)
    all_needs = [Need(line, blocks, waiting) for (line, blocks), waiting in found.items()]
    return sorted(all_needs, key=lambda need: (not need.blocks, need.line.split(":")[0]))


def _data(job: Job, workspace: Workspace) -> Iterator[tuple[str, bool]]:
    if workspace.table.is_synthetic(job.dataset):
        return
    name = workspace.dataset_class(job.dataset)
    kind: Any = DATASET_REGISTRY.get(name)
    folder = workspace.data / kind.dataset_dir
    paths = [
        folder / part for part in (kind.image_dir, kind.split_file, *FILES.get(name, ())) if part
    ]
    missing = [str(path) for path in dict.fromkeys(paths) if not path.exists()]
    if missing:
        hint = "docs/datasets.md describes how to get it"
        yield f"data: {name} lacks {', '.join(missing)} ({hint})", True


def _weights(name: str, workspace: Workspace) -> Iterator[tuple[str, bool]]:
    """Check for the CLIP weights ``name`` in the places of clip/weights.py."""
    if not name or (workspace.root / Path(name).expanduser()).is_file():
        return
    if name in openai.MODELS:
        file = openai.MODELS[name].rsplit("/", 1)[-1]
        folders = (workspace.root / "clip", openai.cache_folder())
        if not any((folder / file).is_file() for folder in folders):
            source = f"{folders[1] / file} ({openai.MODELS[name]})"
            yield f"weights: {name} will be downloaded to {source}", False
    elif ":" in name:
        yield f"weights: {name} will be downloaded by open_clip unless it has them", False
    elif name not in available_models():  # what is left there is part of this repository
        yield f"weights: there is no model and no file {name!r}", True


def _teacher(job: Job, workspace: Workspace, jobs: Sequence[Job]) -> Iterator[tuple[str, bool]]:
    """Check for the CLIP of a student's teacher, and for a checkpoint or a job that writes it."""
    if job.teacher is None:
        return
    yield from _weights(job.teacher.backbone, workspace)
    path = job.teacher.weights
    if path.is_file():
        return
    writer = next((other for other in jobs if path.is_relative_to(other.folder)), None)
    if writer is not None:
        yield f"teacher: {path} will be trained here ({writer.name})", False
    else:
        yield f"teacher: there is no {path} (put PromptKD's published file there)", True
