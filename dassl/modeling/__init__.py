"""Backbones and heads of the original, which are out of scope here.

The names exist so that files which import them load; calling one says what to use instead.
"""

from __future__ import annotations

from typing import Any

from ..utils.errors import UsageError
from ..utils.registry import Registry

BACKBONE_REGISTRY = Registry("BACKBONE")
HEAD_REGISTRY = Registry("HEAD")

__all__ = ["BACKBONE_REGISTRY", "HEAD_REGISTRY", "build_backbone", "build_head"]


def build_backbone(name: str, verbose: bool = True, **kwargs: Any) -> Any:
    """Build a backbone that the caller registered; the original's CNNs are not part of this."""
    if name in BACKBONE_REGISTRY.registered_names():
        return BACKBONE_REGISTRY.get(name)(**kwargs)
    raise _out_of_scope(f"the backbone {name!r}")


def build_head(name: str, verbose: bool = True, **kwargs: Any) -> Any:
    """Build a head that the caller registered; the original's MLP is not part of this."""
    if name in HEAD_REGISTRY.registered_names():
        return HEAD_REGISTRY.get(name)(**kwargs)
    raise _out_of_scope(f"the head {name!r}")


def _out_of_scope(what: str) -> UsageError:
    return UsageError(
        f"{what} is out of scope: this dassl serves CLIP prompt learning and has none of the "
        "original's CNN backbones, heads and domain-adaptation trainers; build a CLIP in your "
        "trainer's build_model (clip.load), or use Dassl.pytorch 0.6.3 itself"
    )
