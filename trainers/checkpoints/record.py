"""Read checkpoint.json, which describes the checkpoints beside it (docs/checkpoints.md)."""

import os
from typing import Any, NamedTuple

from dassl.utils import read_json

from ..settings import SettingsError

__all__ = ["RECORD", "Record", "read_record"]

RECORD = "checkpoint.json"
MAX_LENGTH = 1000  # characters of a name, a path or a fingerprint


class Record(NamedTuple):
    """What the trainers use of checkpoint.json; fields that a file lacks have these defaults."""

    clip: dict[str, dict[str, str]] = {}  # fingerprint of the frozen CLIP
    backbone: str | None = None
    classes: list[str] | None = None  # of the training, in the order of their labels
    settings: dict[str, Any] = {}
    teacher: dict[str, str] = {}  # of a distilled student: "fingerprint", "clip", "weights"
    method: str = ""  # name of the trainer
    selection: str = ""  # last_step, best_val or best_test
    tensors: dict[str, dict[str, str]] = {}  # {"prompt_learner": {"ctx": "4 x 64"}}
    data: dict[str, Any] | None = None  # of the training


def read_record(folder: str) -> Record | None:
    """Return ``folder``/checkpoint.json, or None if there is none.

    Raises:
        SettingsError: a field has another form than the trainers write.
    """
    path = os.path.join(folder, RECORD)
    if not os.path.isfile(path):
        return None
    content = read_json(path)
    checks = {
        "clip": lambda v: _is_table(v) and all(map(_is_fingerprint, v.values())),
        "backbone": lambda v: v is None or _is_text(v),
        "classes": lambda v: v is None or (isinstance(v, list) and all(map(_is_text, v))),
        "settings": _is_table,
        "teacher": lambda v: _is_table(v) and all(map(_is_text, v.values())),
        "method": _is_text,
        "selection": _is_text,
        "tensors": lambda v: _is_table(v) and all(map(_is_text_table, v.values())),
        "data": lambda v: v is None or _is_table(v),
    }
    if not isinstance(content, dict):
        raise _invalid(path, "it is not a table")
    fields = {key: content[key] for key in checks if key in content}
    for key, value in fields.items():
        if not checks[key](value):
            raise _invalid(path, f"its {key} have another form")
    return Record(**fields)


def _invalid(path: str, reason: str) -> SettingsError:
    return SettingsError(
        f"{path} is damaged ({reason}): restore it, or remove it to use the checkpoints beside it "
        "without their description"
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_LENGTH


def _is_text_table(value: Any) -> bool:
    return _is_table(value) and all(map(_is_text, value.values()))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value))


def _is_fingerprint(value: Any) -> bool:
    """Whether this is {"shape": "512 x 512", "sample": "0.01 -0.02 ..."}."""
    if not _is_table(value) or not all(map(_is_text, value.values())):
        return False
    try:
        numbers = [float(number) for number in value.get("sample", "no").split()]
    except ValueError:
        return False
    return "shape" in value and len(numbers) <= 100
