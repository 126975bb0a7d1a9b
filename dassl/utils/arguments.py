"""Command lines: a parser with one-sentence errors, and the types of arguments."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from .errors import UsageError

MAX_SEED = 2**32 - 1  # of numpy's generators


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that shows a module's docstring as it is, and raises UsageError."""

    def __init__(self, description: str | None) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=formatter)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of printing the usage and exiting."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def whole(low: int, high: int = 10**9) -> Callable[[str], int]:
    """Return an argument type: a whole number from ``low`` to ``high``."""

    def convert(word: str) -> int:
        digits = word.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) < 20 and low <= int(word) <= high:
            return int(word)
        raise argparse.ArgumentTypeError(
            f"takes a whole number from {low:,} to {high:,}, got {word!r}"
        )

    return convert


positive = whole(1)
seed = whole(0, MAX_SEED)


def share(word: str) -> float:
    """Return a number of GPUs: at least 0, below 1 for a share of one."""
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if 0 <= value <= 1024:
        return value
    raise argparse.ArgumentTypeError(f"takes a number from 0 to 1,024, got {word!r}")


def path(word: str) -> Path:
    """Return a path with a leading ``~`` replaced by the home folder."""
    try:
        return given_path(word)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def given_path(word: str) -> Path:
    """Return a path that the user gave, with a leading ``~`` replaced by the home folder.

    Raises:
        UsageError: it is empty, has a NUL character, or names a user without a home folder.
    """
    if not word or "\0" in word:
        raise UsageError(f"takes a path, got {word!r}")
    try:
        return Path(word).expanduser()
    except RuntimeError as error:
        raise UsageError(f"takes a path, got {word!r}: {error}") from error
