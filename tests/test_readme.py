"""What the documents name exists, and what they show runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = "assets|benchmarks|clip|configs|dassl|datasets|docs|scripts|tests|trainers"
# Files that the reader of CONTRIBUTING.md creates: the first line of their code names them.
EXAMPLES = set(
    re.findall(
        rf"^```\w+\n# ((?:{FOLDERS})/\S+)", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE
    )
)


def test_the_readmes_example_prints_the_shapes_it_says():
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line]) <= 12
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("torch.Size")[1:] == [
        "([100, 512]) ",
        "([8, 197, 512]) ",
        "([25, 512])\n",
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_every_path_that_is_named_exists(document):
    text = document.read_text()
    named = set(re.findall(rf"(?<![\w/.$-])((?:{FOLDERS})/[\w./-]*[\w/])", text))
    named |= {
        str((document.parent / link).resolve().relative_to(ROOT))
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    }
    missing = sorted(
        name
        for name in named
        if not (ROOT / name).exists() and not any(name.startswith(e) for e in EXAMPLES)
    )
    assert not missing


def test_the_readmes_tree_is_whole():
    tree = re.search(r"## The tree\n\n```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[
        1
    ]
    for file in [*(ROOT / "trainers").glob("*.py"), *(ROOT / "clip").glob("*.py")]:
        if file.name != "__init__.py":
            assert re.search(rf"^  {file.name} ", tree, re.MULTILINE), f"{file} is not in the tree"
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    for folder in folders | {"configs", "docs", "assets", "tests"}:
        assert re.search(rf"^{folder}/", tree, re.MULTILINE), f"{folder}/ is not in the tree"
