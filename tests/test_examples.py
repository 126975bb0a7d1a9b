"""examples/textrefiner.py: output, length and imports."""

import ast
import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "textrefiner.py"


def test_the_example_prints_plain_and_refined_accuracy() -> None:
    command = [sys.executable, str(EXAMPLE), "--epochs", "1"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(
        r"^(plain|refined), (base|new) classes, test, seed 1: (\S+) %$", printed, re.M
    )
    assert [line[:2] for line in found] == [
        (method, part) for method in ("plain", "refined") for part in ("base", "new")
    ]
    assert all(float(accuracy) > 50 for _, _, accuracy in found)


def test_the_example_fits_on_a_page_and_imports_no_trainer_or_config() -> None:
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) <= 80
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    modules = {node.module or "" for node in imports}
    assert not [m for m in modules if m.startswith(("dassl", "yacs")) or m == "trainers.trainer"]
