"""Configs that a program built from defaults other than this project's."""

from collections.abc import Iterator, Mapping
from typing import Any

from yacs.config import CfgNode

from .defaults import get_cfg_default


def complete(cfg: CfgNode, section: str = "") -> CfgNode:
    """Return a config, or a section of one, with the default of every setting that it lacks.

    A program such as UPL's builds its config from a copy of an older Dassl's defaults, which has
    neither the keys added here nor those of later versions. A config that lacks nothing is
    returned itself; otherwise the result is a frozen copy. TRAINER is left alone.

    Args:
        section: the name of the section that ``cfg`` is, such as "OPTIM"; empty: the whole config.
    """
    defaults = get_cfg_default()
    defaults.pop("TRAINER")
    missing = list(_missing(cfg, defaults[section] if section else defaults))
    if not missing:
        return cfg
    filled = cfg.clone()
    filled.defrost()
    for sections, key, value in missing:
        node = filled
        for name in sections:
            node = node[name]
        node[key] = value
    filled.freeze()
    return filled


def _missing(
    node: Mapping[str, Any], defaults: Mapping[str, Any], sections: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Yield (sections, key, default) of what ``node`` lacks."""
    for key, value in defaults.items():
        if key not in node:
            yield sections, key, value
        elif isinstance(value, CfgNode) and isinstance(node[key], CfgNode):
            yield from _missing(node[key], value, (*sections, key))
