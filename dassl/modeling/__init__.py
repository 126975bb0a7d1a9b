"""Backbones and heads of the original, which are out of scope here.

The names exist so that files which import them load; calling one says what to use instead.
"""

from typing import Any, NoReturn

from ..utils.errors import UsageError

__all__ = ["build_backbone", "build_head", "refuse"]


def build_backbone(name: str, verbose: bool = True, **kwargs: Any) -> NoReturn:
    """Raise a UsageError: the original's CNN backbones are out of scope."""
    refuse(f"the backbone {name!r}")


def build_head(name: str, verbose: bool = True, **kwargs: Any) -> NoReturn:
    """Raise a UsageError: the original's MLP head is out of scope."""
    refuse(f"the head {name!r}")


def refuse(what: str) -> NoReturn:
    """Raise the UsageError that says what is out of scope and what to do."""
    raise UsageError(
        f"{what} is out of scope: this dassl serves CLIP prompt learning and has none of the "
        "original's CNN backbones, heads and domain-adaptation trainers; build a CLIP in your "
        "trainer's build_model (clip.load), or use Dassl.pytorch 0.6.3 itself"
    )
