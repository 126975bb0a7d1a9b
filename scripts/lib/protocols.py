"""The protocol table configs/protocols.yaml: which setting a method uses where.

table = ProtocolTable.load(root / "configs/protocols.yaml")
table.setting("coop", "fewshot", dataset="dtd", shots=4).config     # 'vit_b16_ep100'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from dassl.utils import UsageError, nearest

PROTOCOLS = ("base2new", "xd", "fewshot", "zeroshot")


@dataclass(frozen=True)
class Setting:
    """One method in one protocol on one data set.

    ``epoch`` None means the last epoch of the config; ``shots`` is empty where nothing is trained;
    ``save_every`` None leaves the number of checkpoints to the config.
    """

    trainer: str
    config: str
    config_folder: str = ""  # below configs/trainers; the trainer's name unless given
    shots: tuple[int, ...] = ()
    epoch: int | None = None
    save_every: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config_path(self) -> str:
        """The config file, relative to configs/trainers and without its suffix."""
        return f"{self.config_folder or self.trainer}/{self.config}"


class ProtocolTable:
    """The checked content of configs/protocols.yaml."""

    def __init__(self, tree: Mapping[str, Any], source: Path) -> None:
        self._source = source
        self._shared: Mapping[str, Any] = tree.get("every_method", {})
        self._drawn: Mapping[str, str] = tree["drawn_datasets"]
        self._methods: Mapping[str, Any] = tree["methods"]

    @classmethod
    def load(cls, path: Path) -> ProtocolTable:
        with open(path, encoding="utf-8") as file:
            return cls(yaml.safe_load(file), path)

    @property
    def methods(self) -> list[str]:
        return sorted(self._methods)

    def trainer(self, method: str) -> str:
        """The registered trainer of a known method."""
        return str(self._methods[method]["trainer"])

    def protocols(self, method: str) -> list[str]:
        """Those that ``method`` has an entry for; a UsageError if there is no such method."""
        if method not in self._methods:
            raise UsageError(f"unknown method {method!r}: {nearest(method, self.methods)}")
        entry = {**self._shared, **self._methods[method]}
        return [name for name in PROTOCOLS if name in entry]

    def is_drawn(self, dataset: str) -> bool:
        """Does this repository draw the images of ``dataset`` itself on first use?"""
        return fnmatch(dataset, self._drawn["pattern"])

    def setting(
        self, method: str, protocol: str, dataset: str, shots: int | None = None
    ) -> Setting:
        """The setting of ``method`` in ``protocol`` on ``dataset``.

        Args:
            shots: the number of shots that exceptions are looked up for; None for all of the list.

        Raises:
            UsageError: unknown method, or a protocol that the method has no entry for.
        """
        known = self.protocols(method)
        if protocol not in known:
            raise UsageError(
                f"{method} has no protocol {protocol!r} in {self._source}: "
                f"{nearest(protocol, known)}"
            )
        entry = {**self._shared, **self._methods[method]}
        body = {"trainer": entry["trainer"], **entry[protocol]}
        exceptions = body.pop("except", [])
        setting = self._update(None, body)
        for exception in exceptions:
            changes = dict(exception)
            if _applies(changes.pop("for"), dataset, shots):
                setting = self._update(setting, changes)
        if self.is_drawn(dataset):
            setting = replace(setting, config=self._drawn["config"])
        return setting

    def _update(self, setting: Setting | None, changes: Mapping[str, Any]) -> Setting:
        allowed = [item.name for item in fields(Setting)]
        for key in changes:
            if key not in allowed:
                raise UsageError(f"unknown key {key!r} in {self._source}: {nearest(key, allowed)}")
        values = dict(changes)
        if "shots" in values:
            values["shots"] = _as_tuple(values["shots"])
        if values.get("epoch") == "last":
            values["epoch"] = None
        if setting is None:
            return Setting(**values)
        if "options" in values:
            values["options"] = {**setting.options, **values["options"]}
        return replace(setting, **values)


def _applies(condition: Mapping[str, Any], dataset: str, shots: int | None) -> bool:
    datasets = _as_tuple(condition.get("dataset", "*"))
    if not any(fnmatch(dataset, pattern) for pattern in datasets):
        return False
    return "shots" not in condition or shots in _as_tuple(condition["shots"])


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,)
