"""The protocol table configs/protocols.yaml: which setting a method uses where.

table = ProtocolTable.load(root / "configs/protocols.yaml")
table.setting("coop", "fewshot", dataset="dtd", shots=4).config     # 'vit_b16_ep100'
table.targets("domains", "imagenet")     # ['imagenetv2', 'imagenet_sketch', ...]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from dassl.utils import UsageError, nearest

PROTOCOLS = ("base2new", "xd", "fewshot", "zeroshot", "teacher", "teacher_xd")
# What the file holds, and by which part of it a source finds its targets.
SECTIONS = ("every_method", "synthetic_datasets", "methods", "cross_datasets", "domains")
DRAWN = ("pattern", "config")


@dataclass(frozen=True)
class Setting:
    """One method in one protocol on one dataset.

    ``epoch`` None means the last epoch of the config; ``shots`` is empty where nothing is trained;
    ``save_every`` None leaves the number of checkpoints to the config. ``synthetic_config`` is the
    config on drawn datasets where it is another than theirs. ``teacher`` names the method and the
    protocol that train the teacher of a student: "promptsrc teacher".
    """

    trainer: str
    config: str
    config_folder: str = ""  # below configs/trainers; the trainer's name unless given
    shots: tuple[int, ...] = ()
    epoch: int | None = None
    save_every: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    synthetic_config: str = ""
    teacher: str = ""

    @property
    def config_path(self) -> str:
        """The config file, relative to configs/trainers and without its suffix."""
        return f"{self.config_folder or self.trainer}/{self.config}"


class ProtocolTable:
    """The checked content of configs/protocols.yaml."""

    def __init__(self, tree: Any, source: Path) -> None:
        self._source = source
        self._check(tree, "the file", SECTIONS, needed=("synthetic_datasets", "methods"))
        self._check(tree["synthetic_datasets"], "synthetic_datasets", DRAWN, needed=DRAWN)
        self._shared: Mapping[str, Any] = tree.get("every_method", {})
        self._check(self._shared, "every_method")
        self._drawn: Mapping[str, str] = tree["synthetic_datasets"]
        self._methods: Mapping[str, Any] = tree["methods"]
        self._check(self._methods, "methods")
        for method, entry in self._methods.items():
            self._check(entry, method, ("trainer", *PROTOCOLS), needed=("trainer",))
            for protocol in [name for name in PROTOCOLS if name in entry]:
                self._check_setting(entry[protocol], f"{method}, {protocol}")
        self._targets = {kind: tree.get(kind, {}) for kind in ("cross_datasets", "domains")}
        for kind, lists in self._targets.items():
            self._check(lists, kind)

    @classmethod
    def load(cls, path: Path) -> ProtocolTable:
        """Read the file.

        Raises:
            UsageError: it is missing, is not YAML, or lacks what a table needs.
        """
        try:
            return cls(yaml.safe_load(path.read_text(encoding="utf-8")), path)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"{path} is not valid YAML: {reason}") from error

    def _check(
        self,
        tree: Any,
        where: str,
        allowed: Sequence[str] | None = None,
        needed: Sequence[str] = (),
    ) -> None:
        """Raise a UsageError unless ``tree`` is a mapping with these keys."""
        if not isinstance(tree, Mapping):
            raise UsageError(
                f"{self._source}: {where} must hold KEY: value lines, got {tree!r:.40}"
            )
        unknown = [key for key in tree if allowed is not None and key not in allowed]
        if unknown:
            raise UsageError(
                f"{self._source}: {where} has the unknown key {unknown[0]!r}: "
                f"{nearest(unknown[0], allowed or ())}"
            )
        lacking = [key for key in needed if key not in tree]
        if lacking:
            raise UsageError(f"{self._source}: {where} lacks {', '.join(lacking)}")

    def _check_setting(self, tree: Any, where: str) -> None:
        """Raise a UsageError unless ``tree`` describes a `Setting` and its exceptions."""
        names = [item.name for item in fields(Setting)]
        self._check(tree, where, (*names, "except"), needed=("config",))
        exceptions = tree.get("except", [])
        if not isinstance(exceptions, list):
            raise UsageError(f"{self._source}: {where}, except must be a list of entries")
        for number, exception in enumerate(exceptions, 1):
            here = f"{where}, except {number}"
            self._check(exception, here, (*names, "for"), needed=("for",))
            self._check(exception["for"], f"{here}, for", ("dataset", "shots"))

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

    def targets(self, kind: str, source: str) -> list[str]:
        """The datasets on which models trained on ``source`` are tested.

        Args:
            kind: cross_datasets or domains.

        Raises:
            UsageError: ``source`` has none.
        """
        lists = self._targets[kind]
        if source not in lists:
            raise UsageError(
                f"{self._source} names no {kind} of the source {source!r}: "
                f"{nearest(source, sorted(lists))}"
            )
        return list(lists[source])

    def sources(self, kind: str) -> list[str]:
        """The datasets whose models are tested on others; ``kind`` as for `targets`."""
        return list(self._targets[kind])

    def source(self, dataset: str) -> str:
        """The source whose models are tested on ``dataset``: itself, or the one that lists it.

        A dataset that no list names is tested with the first source.
        """
        lists = [pair for kind in self._targets.values() for pair in kind.items()]
        if any(dataset == source for source, _ in lists):
            return dataset
        owners = [source for source, targets in lists if dataset in targets]
        return next(iter([*owners, *(source for source, _ in lists)]), dataset)

    def is_variant(self, dataset: str) -> bool:
        """Is ``dataset`` a shifted test set of another one?"""
        return any(dataset in targets for targets in self._targets["domains"].values())

    def is_synthetic(self, dataset: str) -> bool:
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
        setting = _update(None, body)
        for exception in exceptions:
            changes = dict(exception)
            if _applies(changes.pop("for"), dataset, shots):
                setting = _update(setting, changes)
        if self.is_synthetic(dataset):
            setting = replace(setting, config=setting.synthetic_config or self._drawn["config"])
        return setting


def _update(setting: Setting | None, changes: Mapping[str, Any]) -> Setting:
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
