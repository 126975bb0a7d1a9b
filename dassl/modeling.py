"""Placeholders for the original's backbones and heads, which are out of scope.

They can be imported, but calling them raises an error with the alternatives.
"""

from typing import Any, NoReturn

from .utils.errors import UsageError


def build_backbone(name: str, verbose: bool = True, **kwargs: Any) -> NoReturn:
    """Raise a UsageError: the original's CNN backbones are out of scope."""
    refuse(f"the backbone {name!r}")


def build_head(name: str, verbose: bool = True, **kwargs: Any) -> NoReturn:
    """Raise a UsageError: the original's MLP head is out of scope."""
    refuse(f"the head {name!r}")


def refuse(what: str) -> NoReturn:
    """Raise a UsageError that names what is out of scope and the alternatives."""
    raise UsageError(
        f"{what} is out of scope: this dassl is for CLIP prompt learning and has none of the "
        "original's CNN backbones, heads and domain-adaptation trainers; build a CLIP in your "
        "trainer's build_model (clip.load), or use Dassl.pytorch 0.6.3"
    )
