"""The records in an output folder, and the lock that keeps a second run out of it.

run.json         one run of train.py: command, settings, data, versions, dates and status
checkpoint.json  what the checkpoints are: method, backbone, classes, data, epochs, tensors
result.json      the newest test: its accuracy and everything that decides a table row

Nothing here imports torch, so commands that only read records start at once.
"""

from .checkpoints import facts_of, read_record, repair_record, training_settings, write_record
from .compare import data_differences
from .lock import IN_USE, LOCK, RUNNER, FolderInUseError, end_with_runner, folder_lock
from .results import EARLIER, RESULT, read_result, write_result
from .runs import (
    FAILED,
    FINISHED,
    HARMLESS_KEYS,
    RUN,
    RUNNING,
    find_run_records,
    finish_date,
    is_finished,
    read_run_record,
    recorded_run,
    run_settings,
)

__all__ = [
    "EARLIER",
    "FAILED",
    "FINISHED",
    "HARMLESS_KEYS",
    "IN_USE",
    "LOCK",
    "RESULT",
    "RUN",
    "RUNNER",
    "RUNNING",
    "FolderInUseError",
    "data_differences",
    "end_with_runner",
    "facts_of",
    "find_run_records",
    "finish_date",
    "folder_lock",
    "is_finished",
    "read_record",
    "read_result",
    "read_run_record",
    "recorded_run",
    "repair_record",
    "run_settings",
    "training_settings",
    "write_record",
    "write_result",
]
