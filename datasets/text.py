"""Read the text files of datasets, and show their contents in messages."""

import os

from dassl.utils import UsageError


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Return the lines of a UTF-8 file that are not blank, without blanks around them.

    Raises:
        UsageError: the file is not text.
    """
    with open(path, encoding="utf-8-sig") as file:  # some editors write a byte order mark
        try:
            return [line.strip() for line in file if line.strip()]
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is not a text file in UTF-8 ({error.reason})") from error


def shown(text: str) -> str:
    """Return text of a file for a message: one line, not too long."""
    line = text if text.isprintable() else repr(text)
    return line if len(line) <= 160 else f"{line[:157]}..."
