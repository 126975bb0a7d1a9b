"""What jobs need that is not there yet: images, weights, teachers; looked for, not read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from clip import openai
from clip.weights import available_models
from dassl.config.flat import read_config
from dassl.data.datasets import DATASET_REGISTRY
from scripts.runner import record
from scripts.runner.job import Job, Workspace
from scripts.runner.planner import WEIGHTS, published_path

_REGISTERED = datasets  # imported for its registrations

# Beside image folder and split file, relative to the folder of the dataset.
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
    """One thing that is not there, and the jobs that wait for it.

    Attributes:
        line: what is missing and where it can be had.
        blocks: its jobs cannot run; otherwise it will be fetched or made.
    """

    line: str
    blocks: bool
    jobs: Sequence[Job]


def needs(jobs: Sequence[Job], place: Workspace) -> list[Need]:
    """What the unfinished ``jobs`` need: datasets, then weights, then teachers."""
    open_jobs = [job for job in jobs if record.read(job.folder, record.FINISHED) is None]
    lines: dict[tuple[str, bool], list[Job]] = {}
    for job in open_jobs:
        settings = job.settings(place)
        found = [
            *(_data(job, place)),
            *(_weights(settings.get("MODEL.BACKBONE.NAME", ""), place)),
            *(_teacher(job, settings, place, open_jobs) if "PromptKD" in job.trainer else ()),
        ]
        for need in found:
            lines.setdefault(need, []).append(job)
    wants = [Need(line, blocks, waiting) for (line, blocks), waiting in lines.items()]
    return sorted(wants, key=lambda need: (not need.blocks, need.line.split(":")[0]))


def _data(job: Job, place: Workspace) -> list[tuple[str, bool]]:
    if place.table.is_synthetic(job.dataset):
        return []  # drawn on first use
    name = read_config(place.dataset_config(job.dataset))["DATASET.NAME"]
    kind: Any = DATASET_REGISTRY.get(name)
    folder = place.data / kind.dataset_dir
    wanted = [kind.image_dir, kind.split_file, *FILES.get(name, ())]
    missing = [str(folder / part) for part in dict.fromkeys(wanted) if part]
    missing = [path for path in missing if not Path(path).exists()]
    if not missing:
        return []
    return [
        (f"data: {name} lacks {', '.join(missing)} (docs/datasets.md says how to get it)", True)
    ]


def _weights(name: str, place: Workspace) -> list[tuple[str, bool]]:
    """OpenAI's files are looked for where clip/weights.py does."""
    if not name:
        return []  # train.py says what a config without a backbone lacks
    if (place.root / Path(name).expanduser()).is_file():
        return []
    if name in openai.MODELS:
        file = openai.MODELS[name].rsplit("/", 1)[-1]
        places = (place.root / "clip" / file, openai.cache_folder() / file)
        if any(path.is_file() for path in places):
            return []
        return [
            (f"weights: {name} will be downloaded to {places[1]} ({openai.MODELS[name]})", False)
        ]
    if name in available_models():
        return []
    if ":" in name:
        return [(f"weights: {name} will be downloaded by open_clip unless it has them", False)]
    return [(f"weights: there is no model and no file {name!r}", True)]


def _teacher(
    job: Job, settings: dict[str, Any], place: Workspace, jobs: Sequence[Job]
) -> list[tuple[str, bool]]:
    """The teacher of a student: its CLIP, and the checkpoint, from a file or from another job."""
    found = _weights(str(settings.get("TRAINER.PROMPTKD.TEACHER_NAME", "ViT-L/14")), place)
    given, cross = settings.get(WEIGHTS), settings.get("TRAINER.MODAL") == "cross"
    path = place.root / given if given else published_path(job.dataset, cross, place)
    if path.is_file():
        return found
    maker = next((other for other in jobs if path.is_relative_to(other.folder)), None)
    if maker is not None:
        return [*found, (f"teacher: {path} will be trained here ({maker.name})", False)]
    return [*found, (f"teacher: there is no {path} (put PromptKD's published file there)", True)]
