"""Check the settings of jobs before they start, without importing torch."""

import importlib.util
import sys
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

from dassl.config import get_cfg_default
from dassl.config.flat import decode, read_config
from dassl.config.table import ROWS, check_value, leaves
from dassl.utils import UsageError, nearest
from scripts.runner.job import ROOT, Job, Workspace


def check_job(job: Job, workspace: Workspace) -> None:
    """Raise UsageError if a key of a job's files or pairs is unknown, or its value not allowed.

    Keys of learners that are not in trainers/rows.py are left to train.py.
    """
    own = workspace.table.config_nodes
    for file in (workspace.dataset_config(job.dataset), workspace.trainer_config(job.config)):
        for key, value in read_config(file).items():
            check_pair(key, value, own, f" in {file}")
    for key, text in job.options.items():
        check_pair(key, decode(text), own)


def check_pair(key: str, value: Any, own: frozenset[str], where: str = "") -> None:
    """Raise UsageError if ``key`` is unknown or ``value`` is not allowed.

    Args:
        own: sections of TRAINER that learners have declared, such as COOP.
    """
    rows = all_rows()
    if key in rows:
        check_value(f"{key}{where}", value, rows[key])
        return
    section, _, leaf = key.rpartition(".")
    sections = known_keys()
    if section.startswith("TRAINER.") and section.split(".")[1] in own and section not in sections:
        return
    if key in sections:
        if value is not None:  # an empty section of a file
            raise UsageError(f"{key!r}{where} is a section of settings, got {value!r}")
    elif section not in sections:
        every = [f"{name}.{item}".strip(".") for name in sections for item in sections[name]]
        raise UsageError(f"unknown setting {key!r}{where}: {nearest(key, every)}")
    elif leaf not in sections[section]:
        raise UsageError(f"unknown setting {key!r}{where}: {nearest(leaf, sections[section])}")


@cache
def all_rows() -> Mapping[str, Any]:
    """Return the rows of Dassl's settings and of the trainers'."""
    return {**ROWS, **_trainers_rows().ROWS}


@cache
def known_keys() -> Mapping[str, list[str]]:
    """Return section -> the names of its settings, for every known section."""
    keys = [*all_rows(), *(key for key, _ in leaves(get_cfg_default()))]
    sections: dict[str, list[str]] = {}
    for key in dict.fromkeys(keys):
        section, _, leaf = key.rpartition(".")
        sections.setdefault(section, []).append(leaf)
    for section in list(sections):
        sections.setdefault(section.rpartition(".")[0], [])
    return sections


def _trainers_rows() -> ModuleType:
    """Load trainers/rows.py without its package, which imports torch."""
    spec = importlib.util.spec_from_file_location("rows", ROOT / "trainers" / "rows.py")
    if spec is None or spec.loader is None:
        raise UsageError(f"there is no {ROOT / 'trainers' / 'rows.py'}: restore it")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
