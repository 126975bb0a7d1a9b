"""Fill the templates."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from scripts.probing.run import Run

from .section import Section

__all__ = ["TITLES", "render"]

TITLES = {
    "accuracy": "Accuracy",
    "confusion": "Confusions",
    "calibration": "Calibration",
    "curves": "Training curves",
    "words": "Learned context",
    "cache": "Cache",
    "reading": "What the texts read",
    "refinement": "What refinement changes",
    "saliency": "Saliency",
}
FOLDER = Path(__file__).parent
DASH = "\N{EN DASH}"


def render(
    runs: Sequence[Run], sections: Sequence[Mapping[str, Section]], head: Mapping[str, Any]
) -> str:
    """Return the page of these runs and their sections; ``head`` is from `comparison`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"percent": percent, "number": number, "count": count}
    template = environment.get_template("page.html.jinja")
    return template.render(
        runs=runs,
        sections=sections,
        head=head,
        titles=TITLES,
        css=Markup((FOLDER / "style.css").read_text(encoding="utf-8")),
        script=Markup((FOLDER / "sort.js").read_text(encoding="utf-8")),
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
    )


def percent(value: float | None, digits: int = 1) -> str:
    """Return a number in percent with its unit; a dash for None."""
    return DASH if value is None else f"{value:.{digits}f} %"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with a fixed number of digits; a dash for None."""
    return DASH if value is None else f"{value:.{digits}f}"


def count(value: int) -> str:
    """Return an integer with separators."""
    return f"{value:,}"
