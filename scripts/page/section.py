"""A section of the report, and the JSON of its numbers."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Section", "omitted"]


@dataclass
class Section:
    """What one run shows in one section.

    omitted: one sentence that says why the section does not apply; "" if it does.
    numbers: everything that the page prints, as plain containers; written to the JSON file.
    pictures: inline SVG (`markupsafe.Markup`) and data: URIs, which are on the page only.
    """

    omitted: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Any] = field(default_factory=dict)


def omitted(reason: str) -> Section:
    """Return a section that consists of a sentence."""
    return Section(omitted=reason)
