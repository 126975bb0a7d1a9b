"""The learners that TextRefiner can be ablated on: those with a refined twin."""

from dataclasses import dataclass

from dassl.utils import UsageError, nearest
from scripts.runner.protocol_table import ProtocolTable

PROTOCOL = "base2new"
PREFIX = "TextRefiner"


@dataclass(frozen=True)
class Learner:
    """A plain trainer, its section of TRAINER, and both methods of configs/protocols.yaml."""

    trainer: str
    config_node: str
    plain: str
    refined: str


def learners(table: ProtocolTable) -> dict[str, Learner]:
    """Return trainer -> learner for every trainer X that has a twin named TextRefinerX."""
    settings = {
        method: table.setting(method, PROTOCOL, "")
        for method in table.methods
        if PROTOCOL in table.protocols(method)
    }
    methods = {setting.trainer: method for method, setting in settings.items()}
    return {
        trainer: Learner(
            trainer,
            settings[method].config_node or trainer.upper(),
            method,
            methods[f"{PREFIX}{trainer}"],
        )
        for trainer, method in methods.items()
        if f"{PREFIX}{trainer}" in methods
    }


def find_learner(name: str, table: ProtocolTable) -> Learner:
    """Return the learner of a trainer or method; raise UsageError if it has no refined twin."""
    known = learners(table)
    found = {**known, **{learner.plain: learner for learner in known.values()}}
    if name not in found:
        raise UsageError(
            f"--method takes a trainer with a TextRefiner twin in configs/protocols.yaml, got "
            f"{name!r}: {nearest(name, list(known))}"
        )
    return found[name]
