"""Read what a run folder records about its model: method, backbone, classes, settings, selection.

checkpoint.json contains it. Folders of public code that were converted have few of the settings
(shapes.py finds some of the others).
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..checkpoints.record import RECORD, read_record
from ..settings import SettingsError

__all__ = ["Recorded", "read_recorded"]

CONFIG = "config.yaml"  # the whole config of a run, beside checkpoint.json


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
    data: str = ""  # name of the training data; "" if it is not recorded

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
    record = read_record(folder)
    method = record.method if record else str(config.get("TRAINER.NAME", ""))
    if not method:
        raise SettingsError(
            f"{folder} has no {RECORD} with a method: give the output folder of a run (a folder of "
            "public code is converted by scripts/convert_checkpoint.py --to ours)"
        )
    if record is None:
        return Recorded(folder, method, str(config.get("MODEL.BACKBONE.NAME", "")), [], "", config)
    return Recorded(
        folder,
        method,
        record.backbone or "",
        record.classes or [],
        record.selection,
        {**config, **record.settings},
        record.tensors,
        str((record.data or {}).get("name", "")),
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
        reason = " ".join(str(error).replace("`", "").split())
        raise SettingsError(
            f"{path} is not valid ({reason[:200]}): restore it from a copy, or train again"
        ) from error


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
