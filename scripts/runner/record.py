"""What a run leaves beside its results: job.json at its start, finished.json after exit code 0."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from dassl.utils import read_json, write_json
from dassl.utils.env import library_versions
from scripts.runner.job import Job, Workspace

STARTED, FINISHED = "job.json", "finished.json"


def read(folder: Path, name: str) -> dict[str, Any] | None:
    """The content of ``folder/name``, or None if it is not there."""
    path = folder / name
    return read_json(path) if path.is_file() else None


def write_started(job: Job, place: Workspace) -> dict[str, Any]:
    """Write job.json: command, settings, versions, commit and date. Returns its content."""
    content = {
        "job": job.name,
        "command": shlex.join(job.command(place)),
        "settings": job.settings(place),
        "model": model_date(job),
        "versions": library_versions(),
        "commit": commit(place.root),
        "started": now(),
    }
    write_json(content, job.folder / STARTED)
    return content


def write_finished(job: Job, started: Mapping[str, Any], seconds: float) -> None:
    """Write finished.json: what job.json says, and how long it took."""
    write_json({**started, "finished": now(), "seconds": round(seconds, 1)}, job.folder / FINISHED)


def model_date(job: Job) -> str | None:
    """When the training that ``job`` reads was finished; None if there is no record of it."""
    record = read(job.model_folder, FINISHED) if job.model_folder is not None else None
    return record["finished"] if record is not None else None


def commit(root: Path) -> str | None:
    """The git commit of ``root``, "-dirty" if files were changed; None outside of a repository."""
    command = [
        "git",
        "-C",
        str(root),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
