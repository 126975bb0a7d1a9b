"""Values in YAML files and KEY VALUE pairs that are written as Python literals."""

import ast
import warnings
from typing import Any

MAX_LENGTH = 10_000  # characters of a literal; longer text is no setting's value


def decode(value: Any) -> Any:
    """Return the value of a Python literal such as "1e-5" or "(224, 224)", as yacs reads it.

    Other text, and what is not text, is returned as it is.
    """
    if not isinstance(value, str) or len(value) > MAX_LENGTH:
        return value
    try:
        with warnings.catch_warnings():  # Python's advice on "1is", which is text here
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value  # not a literal, or nested deeper than Python's parser reads
