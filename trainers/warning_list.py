"""Warnings of a trainer: printed once, and kept for the record of its result."""

from functools import cached_property

__all__ = ["WarningList", "print_warning"]


def print_warning(text: str) -> None:
    """Print "warning: text"."""
    print(f"warning: {text}")


class WarningList:
    """A base class for trainers that warn about results that can mislead."""

    @cached_property
    def warnings(self) -> list[str]:
        """The warnings so far, without the word "warning"."""
        return []

    def warn(self, text: str) -> None:
        """Print "warning: text" and keep the text, unless it was given before."""
        if text not in self.warnings:
            self.warnings.append(text)
            print_warning(text)
