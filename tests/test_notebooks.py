"""notebooks/tour.ipynb: every code cell runs on a tiny run, and the stored outputs are complete."""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from tests.trainers.classifier.runs import Runs

ROOT = Path(__file__).parents[1]
CELLS = json.loads((ROOT / "notebooks" / "tour.ipynb").read_text())["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def is_parameters(cell: dict[str, Any]) -> bool:
    """Return whether a cell sets the run and the images, which the test replaces."""
    return "parameters" in cell["metadata"].get("tags", ())


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_the_cells_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(tmp_path / "runs")
    names: dict[str, Any] = {
        "RUN": runs.folder("TextRefinerCoOp"),
        "IMAGES": [Path(path) for path in runs.images],
        "NEW_CLASSES": runs.world.classnames[3:],
        "NEW_IMAGE": Path(runs.images[0]),
        "OUT": tmp_path / "out",
    }
    (parameters,) = filter(is_parameters, CODE)
    assert set(names) == {
        line.split(" = ")[0] for line in parameters["source"] if line[0].isupper() and "=" in line
    }
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the notebook adds to it
    matplotlib.use("Agg")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in CODE:
            if not is_parameters(cell):
                exec(compile("".join(cell["source"]), "tour.ipynb", "exec"), names)
    text = printed.getvalue()
    assert "TextRefinerCoOp on" in text
    assert "tensor(True)" in text
    assert all(f"%  {name}" in text for name in runs.world.classnames[3:])
    assert (tmp_path / "out" / "classifier.safetensors").is_file()


def test_the_stored_outputs_are_of_one_run_from_top_to_bottom() -> None:
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    for cell in CODE:
        source = "".join(cell["source"])
        assert bool(cell["outputs"]) == ("print(" in source or "plt.show()" in source)
        assert not [output for output in cell["outputs"] if output["output_type"] == "error"]
        assert "/tmp" not in json.dumps(cell)
