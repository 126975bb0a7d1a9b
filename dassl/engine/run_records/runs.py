"""run.json: one run of train.py."""

import errno
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from ...config.flat import decode, read_config
from ...utils.env import git_commit, library_versions, now
from ...utils.schema import read_checked
from ...utils.tools import PathLike, write_json
from .results import EARLIER, RESULT
from .schemas import RunRecord

RUN = "run.json"
RUNNING, FINISHED, FAILED = "running", "finished", "failed"
# Written by earlier versions in place of run.json.
OLD_RUNS = {"finished.json": FINISHED, "job.json": RUNNING}
REMEDY = "delete it to run the job again, or restore it"

# Settings of speed and output: a run may be resumed, and counts as finished, with other values.
HARMLESS_KEYS = (
    "DATALOADER.FEATURE_STORE",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.TEST.BATCH_SIZE",
    "TRAIN.CHECKPOINT_FREQ",
    "TRAIN.PRINT_FREQ",
    "VERBOSE",
)
PATH_KEYS = ("DATASET.ROOT", "OUTPUT_DIR", "RESUME", "MODEL_DIR")


def run_settings(
    files: Sequence[PathLike], flags: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings that decide a run's outcome as a flat table, without paths and speed.

    Args:
        files: config files; later ones win.
        flags: values of command-line flags by config key or, for "--seed", "--trainer",
            "--eval-only" and "--load-epoch", by their own names.
        options: the KEY VALUE pairs, which win over both.
    """
    flat: dict[str, Any] = {}
    for file in files:
        flat |= read_config(Path(file))
    flat |= {**flags, **{key: decode(value) for key, value in options.items()}}
    flat = {key: value for key, value in flat.items() if key not in HARMLESS_KEYS + PATH_KEYS}
    return json.loads(json.dumps(flat, default=str))  # as it will be read back from a file


@contextmanager
def recorded_run(
    folder: PathLike, settings: Mapping[str, Any], model_dir: PathLike = "", began: float = 0.0
) -> Iterator[Callable[..., None]]:
    """Write ``folder``/run.json at the start of the block, and its status at the end.

    Yields a function to call when the run has passed its checks, with more facts for the record
    (data, clip). It sets the result of an earlier run aside. Before that a finished run's record
    and result are left alone, so that a refused command deletes nothing. A test in the folder of a
    training leaves the training's record alone.

    Args:
        settings: from `run_settings`.
        model_dir: the output folder of the tested model.
        began: value of ``time.monotonic()`` from which the run's seconds are counted.
    """
    earlier = read_run_record(folder)
    trained = earlier and not earlier.get("settings", {}).get("--eval-only")
    keeps_record = bool(settings["--eval-only"] and trained)
    checked = earlier.get("status") != FINISHED
    record: dict[str, Any] = {
        "status": RUNNING,
        "command": shlex.join(["python", *sys.argv]),
        "settings": dict(settings),
        "model": finish_date(model_dir) if model_dir else None,
        "versions": library_versions(),
        "commit": git_commit(),
        "started": now(),
    }

    def write() -> None:
        if checked and not keeps_record:
            write_json(record, Path(folder) / RUN)

    def checks_passed(facts: Mapping[str, Any] = {}) -> None:
        nonlocal checked
        checked = True
        record.update(facts)
        write()
        result = Path(folder) / RESULT
        if result.is_file():
            result.replace(Path(folder) / EARLIER)

    write()
    status = FAILED
    try:
        yield checks_passed
        if checked and not keeps_record and not (Path(folder) / RUN).is_file():
            reason = "removed while the run was writing to it"
            raise FileNotFoundError(errno.ENOENT, reason, str(folder))
        status = FINISHED
    finally:
        seconds = round(time.monotonic() - began, 1)
        record |= {"status": status, "finished": now(), "seconds": seconds}
        if Path(folder).is_dir():  # else it was removed meanwhile
            write()


def read_run_record(folder: PathLike) -> RunRecord:
    """Return the content of ``folder``/run.json, or of an earlier version's records; else {}.

    ``status`` is "running" (or the run was killed), "finished" or "failed".
    """
    if (Path(folder) / RUN).exists():
        return read_checked(Path(folder) / RUN, RunRecord, REMEDY)
    for name, status in OLD_RUNS.items():
        if (Path(folder) / name).is_file():
            record = read_checked(Path(folder) / name, RunRecord, REMEDY)
            return cast(RunRecord, {**record, "status": status})
    return cast(RunRecord, {})


def find_run_records(folder: PathLike) -> list[Path]:
    """Return the folders below ``folder`` that have a run record."""
    found = Path(folder).rglob("*.json")
    return sorted({path.parent for path in found if path.name in (RUN, *OLD_RUNS)})


def is_finished(folder: PathLike) -> bool:
    """Whether the newest run in the folder ended well."""
    return read_run_record(folder).get("status") == FINISHED


def finish_date(folder: PathLike) -> str | None:
    """Return when the run in the folder finished; None without a record of a finished run."""
    record = read_run_record(folder)
    return record.get("finished") if record.get("status") == FINISHED else None
