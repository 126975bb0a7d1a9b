"""The documents: all named paths exist, and README's example runs."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = "assets|benchmarks|clip|configs|dassl|datasets|docs|examples|notebooks|scripts|tests"
FOLDERS += "|trainers"
# Files that a reader of CONTRIBUTING.md creates; the first line of the code has their name.
EXAMPLES = set(
    re.findall(
        rf"^```\w+\n# ((?:{FOLDERS})/\S+)", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE
    )
)


def test_readme_has_at_most_130_lines():
    assert len(README.splitlines()) <= 130


def test_readme_example_prints_its_shapes():
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
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
def test_named_paths_exist(document):
    text = document.read_text()
    named = set(re.findall(rf"(?<![\w/.$-])((?:{FOLDERS})/[\w./-]*[\w/])", text))
    named |= {
        str((document.parent / link).resolve().relative_to(ROOT))
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    }
    assert not sorted(name for name in named - EXAMPLES if not (ROOT / name).exists())


def test_readme_tree_names_every_folder():
    tree = re.findall(r"^([\w.]+/?) {2,}\S", README.split("## Documentation")[1], re.MULTILINE)
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    folders = {f"{path.split('/')[0]}/" for path in tracked if "/" in path and path[0] != "."}
    if not folders:  # an archive without git
        folders = {f"{name}/" for name in FOLDERS.split("|")}
    assert set(tree) == folders | {"train.py"}


def test_architecture_names_every_module_and_folder():
    tree = (ROOT / "docs" / "architecture.md").read_text().split("```")[3]
    names = set(re.findall(r"[\w.]+", tree))
    modules = {path.name for path in (ROOT / "trainers").glob("*.py")} - {"__init__.py"}
    packages = {
        path.parent.name
        for name in ("clip", "dassl", "datasets", "scripts", "trainers")
        for path in (ROOT / name).rglob("__init__.py")
    }
    assert not modules - names
    assert not packages - names


def test_pictures_are_valid_and_have_a_background():
    """A picture without a background is unreadable in GitHub's dark theme."""
    for picture in (ROOT / "docs").glob("*.svg"):
        root = ElementTree.parse(picture).getroot()
        width, height = map(float, root.attrib["viewBox"].split()[2:])
        first = root.find("{http://www.w3.org/2000/svg}rect")
        assert first is not None
        assert first.attrib["fill"] == "#ffffff"
        assert float(first.attrib["width"]) > 0.99 * width
        assert float(first.attrib["height"]) > 0.99 * height
