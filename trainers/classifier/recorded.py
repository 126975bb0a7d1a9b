"""Read what a run folder records about its model: method, backbone, classes, settings, selection.

checkpoint.json contains it. Folders of public code that were converted have few of the settings
(shapes.py finds some of the others).
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dassl.utils import read_json

from ..settings import SettingsError

__all__ = ["RECORD", "Recorded", "read_recorded"]

RECORD = "checkpoint.json"
CONFIG = "config.yaml"  # the whole config of a run, beside checkpoint.json


class _Record(msgspec.Struct):
    """The fields of checkpoint.json that a model is built from."""

    method: str
    backbone: str | None = None
    classes: list[str] | None = None
    selection: str = ""
    settings: dict[str, Any] = {}
    tensors: dict[str, dict[str, str]] = {}


@dataclass(frozen=True)
class Recorded:
    """A run folder. ``settings`` is a flat table, {"TRAINER.COOP.N_CTX": 4, ...}."""

    folder: str
    method: str
    backbone: str
    classes: list[str]  # in label order; empty if they are not recorded
    selection: str = ""  # last_step, best_val or best_test; "" if it is not recorded
    settings: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, dict[str, str]] = field(default_factory=dict)  # {"Memory": {key: "4 x 64"}}

    def missing(self, what: str, argument: str) -> SettingsError:
        """Return the error for something that the folder does not record."""
        return SettingsError(
            f"{os.path.join(self.folder, RECORD)} does not record {what}: give {argument}"
        )


def read_recorded(folder: str) -> Recorded:
    """Read checkpoint.json and config.yaml of a run folder; the former wins.

    Raises SettingsError if the folder has neither, or if a file has another content.
    """
    config = _read_config(os.path.join(folder, CONFIG))
    path = os.path.join(folder, RECORD)
    if os.path.isfile(path):
        record = _checked(read_json(path), _Record, path)
    elif config.get("TRAINER.NAME"):
        record = _Record(str(config["TRAINER.NAME"]), str(config.get("MODEL.BACKBONE.NAME", "")))
    else:
        raise SettingsError(
            f"{folder} has no {RECORD}: give the output folder of a run (a folder of public code "
            "is converted by scripts/convert_checkpoint.py --to ours)"
        )
    return Recorded(
        folder,
        record.method,
        record.backbone or "",
        record.classes or [],
        record.selection,
        {**config, **record.settings},
        record.tensors,
    )


def _read_config(path: str) -> dict[str, Any]:
    if not os.path.isfile(path):
        return {}
    with open(path, "rb") as file:
        text = file.read()
    try:
        content = msgspec.yaml.decode(text, type=dict[str, Any])
        return dict(_flatten(content))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(path, error) from error


def _checked(content: Any, kind: type[_Record], path: str) -> _Record:
    try:
        return msgspec.convert(content, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _invalid(path, error) from error


def _invalid(path: str, error: Exception) -> SettingsError:
    reason = " ".join(str(error).replace("`", "").split())
    return SettingsError(
        f"{path} is not valid ({reason[:200]}): restore it from a copy, or train again"
    )


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
