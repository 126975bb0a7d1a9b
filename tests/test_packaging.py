"""`pip install -e .` installs the dependencies of requirements*.txt, and no package."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = ("sweep", "export", "report", "dev")


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> tuple[Message, Path]:
    """Return the metadata that setuptools makes, and the folder of their files."""
    folder = tmp_path_factory.mktemp("metadata")
    (folder / "out").mkdir()
    hook = (
        "import sys; from setuptools import build_meta; "
        "build_meta.prepare_metadata_for_build_editable(sys.argv[1])"
    )
    for name in ("pyproject.toml", "README.md", "LICENSE", *(p.name for p in requirement_files())):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    for name in ("clip", "datasets", "train.py"):  # what setuptools would find by itself
        path = folder / name if name.endswith(".py") else folder / name / "__init__.py"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    done = subprocess.run(
        [sys.executable, "-c", hook, str(folder / "out")],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (info,) = (folder / "out").glob("*.dist-info")
    return HeaderParser().parsestr((info / "METADATA").read_text()), info


def requirement_files() -> list[Path]:
    return sorted(ROOT.glob("requirements*.txt"))


def requirements(path: Path) -> set[str]:
    """Return the packages of a file, and "textrefiner[X]" for a file X that it includes."""
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    included = [re.fullmatch(r"-r requirements-(\w+)\.txt", line) for line in lines]
    own = {line for line in lines if line and not line.startswith("-r")}
    return own | {f"textrefiner[{found[1]}]" for found in included if found}


def required(metadata: Message, extra: str) -> set[str]:
    found = set()
    for line in metadata.get_all("Requires-Dist", []):
        name, _, marker = (part.strip() for part in line.partition(";"))
        if (re.sub(r"['\"]", "", marker) == f"extra == {extra}") if extra else not marker:
            found.add(name)
    return found


def test_dependencies_are_those_of_the_requirement_files(
    metadata: tuple[Message, Path],
) -> None:
    text = metadata[0]
    assert required(text, "") == requirements(ROOT / "requirements.txt")
    assert set(text.get_all("Provides-Extra", [])) == set(EXTRAS)
    files = {path.stem.partition("-")[2]: path for path in requirement_files()}
    assert set(files) - {""} <= set(EXTRAS)
    for extra in EXTRAS:
        if extra in files:
            assert required(text, extra) == requirements(files[extra]), extra


def test_no_top_level_name_is_claimed(metadata: tuple[Message, Path]) -> None:
    names = metadata[1] / "top_level.txt"
    assert not names.exists() or not names.read_text().strip()


def test_facts(metadata: tuple[Message, Path]) -> None:
    text = metadata[0]
    assert text["Name"] == "textrefiner"
    assert text["License-Expression"] == "MIT"
    assert text["Requires-Python"] == ">=3.11"


def test_version_is_that_of_the_changelog_and_the_citation(metadata: tuple[Message, Path]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()
