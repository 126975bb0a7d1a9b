"""The settings of each method in each protocol: configs/protocols.yaml.

table = ProtocolTable.load(root / "configs/protocols.yaml")
table.setting("coop", "fewshot", dataset="dtd", shots=4).config     # 'vit_b16_ep100'
table.targets("domains", "imagenet")     # ['imagenetv2', 'imagenet_sketch', ...]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from dassl.config.yaml_file import read_yaml
from dassl.utils import UsageError, nearest
from dassl.utils.schema import Count, Record, check

PROTOCOLS = ("base2new", "xd", "fewshot", "zeroshot", "teacher", "teacher_xd")
SECTIONS = ("every_method", "synthetic_datasets", "methods", "cross_datasets", "domains")
SYNTHETIC = ("pattern", "config")
Name = Annotated[str, Meta(min_length=1)]
Shots = Annotated[int, Meta(ge=0, le=1_000_000)]
Epoch = Annotated[int, Meta(ge=1, le=1_000_000)]
Value = str | float | bool | list[str | float | bool]  # of a KEY VALUE pair


@dataclass(frozen=True)
class Setting:
    """One method in one protocol on one dataset; configs/protocols.yaml describes the fields.

    ``epoch`` None means the last epoch of the config; ``shots`` is empty where nothing is trained;
    ``save_every`` None leaves the number of checkpoints to the config.
    """

    trainer: str
    config: str
    config_folder: str = ""  # below configs/trainers; the trainer's name unless given
    config_node: str = ""
    shots: tuple[int, ...] = ()
    epoch: int | None = None
    save_every: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    synthetic_config: str = ""
    teacher: str = ""
    folder_suffix: str = ""
    suffix_defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config_path(self) -> str:
        """The config file, relative to configs/trainers and without its suffix."""
        return f"{self.config_folder or self.trainer}/{self.config}"


class Fields(Record, omit_defaults=True):
    """The types of a `Setting` in the file, whose names and needed ones are checked apart."""

    trainer: Name = ""
    config: Name = ""
    config_folder: Name = ""
    config_node: Name = ""
    shots: Shots | list[Shots] = 0
    epoch: Epoch | Literal["last"] = "last"
    save_every: Count = 0
    options: dict[Name, Value] = {}
    synthetic_config: Name = ""
    teacher: Annotated[str, Meta(pattern=r"^\S+ (teacher|teacher_xd)$")] = ""
    folder_suffix: Annotated[str, Meta(pattern=r"^([^{}/]|\{[A-Z_]+\})*$")] = ""
    suffix_defaults: dict[Name, Value] = {}


class Condition(Record):
    """When an exception applies."""

    dataset: Name | list[Name] = "*"
    shots: Shots | list[Shots] = 0


class Top(Record):
    """The types of the file's values that are not methods."""

    synthetic_datasets: dict[str, Name] = {}
    cross_datasets: dict[str, list[Name]] = {}
    domains: dict[str, list[Name]] = {}


class ProtocolTable:
    """The checked content of configs/protocols.yaml."""

    def __init__(self, tree: Any, source: Path) -> None:
        self._source = source
        self._check(tree, "the file", SECTIONS, needed=("synthetic_datasets", "methods"))
        self._check(tree["synthetic_datasets"], "synthetic_datasets", SYNTHETIC, needed=SYNTHETIC)
        self._shared: Mapping[str, Any] = tree.get("every_method", {})
        self._check(self._shared, "every_method", PROTOCOLS)
        for protocol, entry in self._shared.items():
            self._check_setting(entry, f"every_method, {protocol}")
        self._synthetic: Mapping[str, str] = tree["synthetic_datasets"]
        self._methods: Mapping[str, Any] = tree["methods"]
        self._check(self._methods, "methods")
        for method, entry in self._methods.items():
            self._check(entry, method, ("trainer", "config_node", *PROTOCOLS), needed=("trainer",))
            own = {key: entry[key] for key in entry if key not in PROTOCOLS}
            self._check_types(own, Fields, method)
            for protocol in [name for name in PROTOCOLS if name in entry]:
                self._check_setting(entry[protocol], f"{method}, {protocol}")
                if protocol.startswith("teacher"):
                    self._check_teacher(entry[protocol], f"{method}, {protocol}")
        self._targets = {kind: tree.get(kind, {}) for kind in ("cross_datasets", "domains")}
        for kind, lists in self._targets.items():
            self._check(lists, kind)
        self._check_types(tree, Top, "the file")

    @classmethod
    def load(cls, path: Path) -> "ProtocolTable":
        """Read the file; raise UsageError if it is missing, not YAML, or not a protocol table."""
        try:
            tree = read_yaml(path)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        return cls(tree, path)

    def _check(
        self,
        tree: Any,
        where: str,
        allowed: Sequence[str] | None = None,
        needed: Sequence[str] = (),
    ) -> None:
        """Raise UsageError unless ``tree`` is a mapping with these keys."""
        if not isinstance(tree, Mapping):
            raise UsageError(
                f"{self._source}: {where} must contain KEY: value lines, got {tree!r:.40}"
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
        """Raise UsageError unless ``tree`` describes a `Setting` and its exceptions."""
        names = [item.name for item in fields(Setting)]
        self._check(tree, where, (*names, "except"), needed=("config",))
        self._check_types(tree, Fields, where)
        exceptions = tree.get("except", [])
        if not isinstance(exceptions, list):
            raise UsageError(f"{self._source}: {where}, except must be a list of entries")
        for number, exception in enumerate(exceptions, 1):
            here = f"{where}, except {number}"
            self._check(exception, here, (*names, "for"), needed=("for",))
            self._check_types(exception, Fields, here)
            self._check(exception["for"], f"{here}, for", ("dataset", "shots"))
            self._check_types(exception["for"], Condition, f"{here}, for")

    def _check_teacher(self, tree: Mapping[str, Any], where: str) -> None:
        """Raise UsageError unless an entry trains one model, without a teacher itself."""
        for part in (tree, *tree.get("except", [])):
            if "teacher" in part:
                raise UsageError(f"{self._source}: {where} cannot have a teacher itself: remove it")
            if isinstance(part.get("shots"), list) and len(part["shots"]) != 1:
                raise UsageError(
                    f"{self._source}: {where} trains one teacher, so shots must be one number, got "
                    f"{part['shots']}"
                )
        if "shots" not in tree:
            raise UsageError(f"{self._source}: {where} lacks shots")

    def _check_types(self, tree: Mapping[str, Any], kind: type[Record], where: str) -> None:
        """Raise UsageError unless the values of ``tree`` have the types of ``kind``."""
        check(tree, kind, f"{self._source}: {where}", "its first lines describe the values")

    @property
    def methods(self) -> list[str]:
        return sorted(self._methods)

    @property
    def config_nodes(self) -> frozenset[str]:
        """The sections of TRAINER that methods name as their own."""
        return frozenset(
            str(entry.get("config_node", entry["trainer"].upper()))
            for entry in self._methods.values()
        )

    def method(self, name: str) -> str:
        """Return the method with this name, or the one of this trainer."""
        by_trainer = {entry["trainer"]: method for method, entry in self._methods.items()}
        if name in self._methods:
            return name
        if name not in by_trainer:
            known = [*self._methods, *by_trainer]
            raise UsageError(f"unknown method or trainer {name!r}: {nearest(name, known)}")
        return str(by_trainer[name])

    def protocols(self, method: str) -> list[str]:
        """Return the entries of ``method``; raise UsageError if there is no such method."""
        if method not in self._methods:
            raise UsageError(f"unknown method {method!r}: {nearest(method, self.methods)}")
        entry = {**self._shared, **self._methods[method]}
        return [name for name in PROTOCOLS if name in entry]

    def targets(self, kind: str, source: str) -> list[str]:
        """Return the datasets on which models trained on ``source`` are tested.

        Args:
            kind: cross_datasets or domains.

        Raises:
            UsageError: ``source`` has none.
        """
        lists = self._targets[kind]
        if source not in lists:
            raise UsageError(
                f"{self._source} lists no {kind} of the source {source!r}: "
                f"{nearest(source, sorted(lists))}"
            )
        return list(lists[source])

    def sources(self, kind: str) -> list[str]:
        """Return the datasets that have `targets`."""
        return list(self._targets[kind])

    def source(self, dataset: str) -> str:
        """Return the source of models that are tested on ``dataset``.

        It is the dataset itself if it has targets, else the source that lists it, else the first.
        """
        lists = [pair for kind in self._targets.values() for pair in kind.items()]
        if any(dataset == source for source, _ in lists):
            return dataset
        owners = [source for source, targets in lists if dataset in targets]
        return next(iter([*owners, *(source for source, _ in lists)]), dataset)

    def is_variant(self, dataset: str) -> bool:
        """Whether ``dataset`` is a shifted test set of another one."""
        return any(dataset in targets for targets in self._targets["domains"].values())

    def is_synthetic(self, dataset: str) -> bool:
        """Whether this repository generates the images of ``dataset`` on first use."""
        return fnmatch(dataset, self._synthetic["pattern"])

    def setting(
        self, method: str, protocol: str, dataset: str, shots: int | None = None
    ) -> Setting:
        """Return the setting of ``method`` in ``protocol`` on ``dataset``.

        Args:
            shots: the number of shots for which exceptions are looked up; None: for any.

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
        own = {key: entry[key] for key in ("trainer", "config_node") if key in entry}
        body = {**own, **entry[protocol]}
        exceptions = body.pop("except", [])
        setting = _update(None, body)
        for exception in exceptions:
            changes = dict(exception)
            if _applies(changes.pop("for"), dataset, shots):
                setting = _update(setting, changes)
        if self.is_synthetic(dataset):
            config = setting.synthetic_config or self._synthetic["config"]
            setting = replace(setting, config=config)
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
