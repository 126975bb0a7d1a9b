"""Make the report: open the runs, compute the sections, write page and numbers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dassl.utils.tools import write_text
from scripts.probing.run import Run, open_run
from scripts.probing.scoring import score

from .cache import cache
from .calibration import calibration
from .confusion import confusions
from .curves import curves
from .facts import comparison, facts
from .per_class import accuracy
from .refinement import reading, refinement
from .render import render
from .saliency import saliency
from .section import Section
from .words import words

__all__ = ["build", "sections_of"]


def sections_of(run: Run) -> dict[str, Section]:
    """Compute all sections of a run, by the name that the templates and the JSON have."""
    scores = score(run)
    return {
        "accuracy": accuracy(run, scores),
        "confusion": confusions(run, scores),
        "calibration": calibration(run, scores),
        "curves": curves(run),
        "words": words(run),
        "cache": cache(run),
        "reading": reading(run, scores),
        "refinement": refinement(run, scores),
        "saliency": saliency(run, scores),
    }


def build(
    folders: Sequence[Path], out: Path, root: str, max_images: int | None, device: str | None
) -> list[Path]:
    """Write the page to ``out`` and the numbers beside it; return both paths.

    Arguments are those of `scripts.probing.run.open_run`.
    """
    # All folders are opened before the first one is computed, so that a wrong one is named at once.
    runs = [open_run(folder, root, max_images, device) for folder in folders]
    sections = [sections_of(run) for run in runs]
    head = comparison(runs)
    numbers: dict[str, Any] = {
        "runs": [
            {
                "folder": str(run.folder),
                "data": run.data,
                "facts": facts(run),
                "settings": {row["name"]: row["values"][i] for row in head["settings"]},
                **{
                    name: {"omitted": part.omitted} if part.omitted else part.numbers
                    for name, part in parts.items()
                },
            }
            for i, (run, parts) in enumerate(zip(runs, sections, strict=True))
        ]
    }
    page = render(runs, sections, head)
    write_text(_printable(page), out)
    written = out.with_suffix(".json")
    write_text(json.dumps(numbers, allow_nan=False), written)
    return [out, written]


def _printable(text: str) -> str:
    """Return the text without bytes of file names that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
