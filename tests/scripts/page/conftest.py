"""Toy runs of every method, and their reports, made once per test session."""

import importlib.util
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.trainers.classifier.runs import Runs

ROOT = Path(__file__).parents[3]
VOID = {"meta", "link", "img", "br"}


def load_script() -> Any:
    """Return scripts/report.py as a module, whatever else is called scripts.report."""
    spec = importlib.util.spec_from_file_location("report_script", ROOT / "scripts/report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Page(HTMLParser):
    """The elements of a page, after checking that every one of them is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of this name."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        """The text of the page with single spaces."""
        return " ".join(" ".join(self.texts).split())


class Report(NamedTuple):
    """A written report: the page as text and parsed, and its numbers for each run."""

    path: Path
    html: str
    page: Page
    runs: list[dict[str, Any]]


Make = Callable[..., Report]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Return the runs of this session."""
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return a function from run folders and options to their `Report`, which is made once."""
    script, made = load_script(), {}

    def make(*words: object) -> Report:
        if words not in made:
            out = tmp_path_factory.mktemp("report") / "page.html"
            assert script.main([*map(str, words), "--out", str(out)]) == 0
            html = out.read_text(encoding="utf-8")
            numbers = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
            made[words] = Report(out, html, Page(html), numbers["runs"])
        return made[words]

    return make


@pytest.fixture(scope="session")
def zero_shot(runs: Runs) -> Path:
    """Return the folder of a test of zero-shot CLIP."""
    folder = runs.root / "zero-shot"
    folder.mkdir()
    cfg = runs.world.cfg("ZeroshotCLIP", folder)
    (folder / "config.yaml").write_text(cfg.dump())
    return folder
