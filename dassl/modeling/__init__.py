"""Placeholders for the original's backbones, heads and trainers, which are out of scope.

The builders can be imported, but calling them raises an error with the alternatives. Importing a
name from `ops`, or from the trainers' modules dassl.engine.{da,dg,ssl}, raises it at once.
"""

from collections.abc import Callable
from typing import Any, NoReturn

from ..utils.errors import UsageError


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


def refuse_names(module: str) -> Callable[[str], NoReturn]:
    """Return the `__getattr__` of a module that the original has and this dassl does not.

    It raises a UsageError for the original's names, and an AttributeError for Python's own.
    """

    def __getattr__(name: str) -> NoReturn:  # it becomes the module's
        if name.startswith("__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        refuse(f"{module}.{name}")

    return __getattr__
