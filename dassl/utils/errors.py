"""Errors that are the user's to solve, and the sentence that helps."""

from collections.abc import Iterable
from difflib import get_close_matches


class UsageError(ValueError):
    """A wrong setting, file or name: what was got, what is allowed and what to do, in a sentence.

    Command-line entries print the sentence without a traceback; anything else is a bug.
    """


class NonFiniteLossError(UsageError, FloatingPointError):
    """A loss became infinite or NaN; also a FloatingPointError, as the original raised."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return "did you mean 'a' or 'b'? allowed: ..." for a name that is not in `allowed`."""
    names = sorted(str(item) for item in allowed)
    by_lower = {item.lower(): item for item in names}
    close = [
        by_lower[match] for match in get_close_matches(str(name).lower(), by_lower, cutoff=0.5)
    ]
    question = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"{question}allowed: {', '.join(names) or '(none)'}"
