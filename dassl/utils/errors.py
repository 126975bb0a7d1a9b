"""Errors that the user can solve, and the suggestions in their messages."""

from collections.abc import Iterable
from difflib import get_close_matches


class UsageError(ValueError):
    """A wrong setting, file or name; the message gives the value, the allowed values and a remedy.

    Command-line programs print the message without a traceback.
    """


class NonFiniteLossError(UsageError, FloatingPointError):
    """A loss became infinite or NaN; also a FloatingPointError, as in the original Dassl."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return "did you mean 'a' or 'b'? allowed: ..." for a name that is not in `allowed`.

    At most three similar names are suggested, and a long list of allowed names is shortened.
    """
    names = sorted(str(item) for item in allowed)
    by_lower = {item.lower(): item for item in names}
    close = get_close_matches(str(name).lower(), by_lower, n=3, cutoff=0.5)
    question = f"did you mean {' or '.join(repr(by_lower[c]) for c in close)}? " if close else ""
    listed = ", ".join(names) or "(none)"
    if len(listed) > 400:
        listed = f"{', '.join(names[:3])}, ... ({len(names)} in all)"
    return f"{question}allowed: {listed}"
