"""Command-line help and checks do not import torch, which takes seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts.fake_project import ROOT

GRID = ["--datasets", "critters", "--seeds", "1", "--dry-run"]
COMMANDS = [
    ["train.py", "--help"],
    *(
        [f"scripts/{path.name}", "--help"]
        for path in sorted((ROOT / "scripts").glob("*.py"))
        if path.name != "__init__.py"
    ),
    ["scripts/run.py", "textrefiner", "base2new", "critters", "1", "--dry-run"],
    ["scripts/sweep.py", "--trainers", "coop", "textrefiner", *GRID],
    ["scripts/reproduce.py", "--methods", "coop", "promptkd", *GRID],
    ["scripts/ablate.py", "critters", "--seeds", "1", "--dry-run"],
]
PROGRAM = """
import atexit, runpy, sys
atexit.register(lambda: print("torch" in sys.modules, file=sys.stderr))
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0] or "."
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2] + words[-1:]))
def test_torch_is_not_imported(words: list[str], tmp_path: Path) -> None:
    env = {"OUTPUT": str(tmp_path), "DATA": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert done.stderr.splitlines()[-1] == "False"
