"""The one error that finding, reading and building CLIP models raises."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WeightsError(ValueError):
    """Weights that cannot be found, read or trusted; one sentence says why and what to do."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """The end of a sentence about a wrong name: the likeliest meant, and all that are allowed."""
    by_lower = {each.lower(): each for each in allowed}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
    guess = " or ".join(repr(by_lower[each]) for each in close)
    listed = ", ".join(by_lower.values())
    return f"did you mean {guess}? allowed: {listed}" if guess else f"allowed: {listed}"
