"""docs/troubleshooting.md: every message that it quotes occurs in the source."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.document_text import ROOT, inline_code, tables

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
SOURCES = [
    ROOT / "train.py",
    *(
        path
        for folder in ("clip", "dassl", "datasets", "scripts", "trainers")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ),
]
VALUE = "\0"  # in the place of an inserted value
SHORTEST = 8  # letters of a message: fewer would occur anywhere


def templates(source: str) -> Iterator[str]:
    """Yield the texts of a program, except docstrings, with VALUE for each inserted value."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    formats = [node.format_spec for node in nodes if isinstance(node, ast.FormattedValue)]
    skipped = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    skipped |= {
        id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values
    }
    skipped |= {id(node) for node in formats}
    for node in nodes:
        if id(node) in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [getattr(part, "value", "") for part in node.values]
            text = "".join(part if isinstance(part, str) else VALUE for part in parts)
            yield re.sub(r"\s+", " ", text)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"\s+", " ", node.value)


def quoted(page: str) -> list[str]:
    """Return the messages in the first column of the page's tables, as they are written."""
    rows = [row for table in tables(page) if table[0][0] == "Message" for row in table[1:]]
    return [message for row in rows for message in inline_code(row[0])]


def occurs(message: str, known: list[str]) -> bool:
    """Return whether a template contains the message with its <values>."""
    wanted = re.sub(r"<[^<>]*>", VALUE, message)
    return any(wanted in template for template in known)


KNOWN = [text for path in SOURCES for text in templates(path.read_text(encoding="utf-8"))]


def test_templates_are_the_texts_of_a_program() -> None:
    source = (
        '"""Raise of me."""\n'
        'def f(a):\n    """Return of you."""\n'
        '    raise ValueError(f"no file {a!r}: "\n        f"get {a:,}" " again")\n'
        'x = "plain"\n'
    )
    assert set(templates(source)) == {f"no file {VALUE}: get {VALUE} again", "plain"}


def test_a_changed_message_is_found() -> None:
    known = [f"no file {VALUE}: get it again"]
    assert occurs("no file <path>: get it", known)
    assert not occurs("no files <path>: get it", known)
    assert not occurs("no file path: get it", known)


@pytest.mark.parametrize("message", quoted(PAGE))
def test_message_occurs_in_the_source(message: str) -> None:
    assert len(re.sub(r"<[^<>]*>|\W", "", message)) >= SHORTEST
    assert occurs(message, KNOWN), message


def test_every_row_has_a_message_a_cause_and_a_step() -> None:
    found = [row for table in tables(PAGE) for row in table[1:]]
    assert len(found) > 60
    assert all(len(row) == 3 and all(row) for row in found)
    messages = quoted(PAGE)
    assert all(inline_code(row[0]) for row in found)
    shared = "<path> cannot be used"  # which the second part of the message tells apart
    assert len(set(messages) - {shared}) == len(messages) - messages.count(shared)


@pytest.mark.parametrize("document", ["README.md", "docs/install.md", "docs/faq.md"])
def test_page_is_linked(document: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text())
    assert "troubleshooting.md" in [link.removeprefix("docs/") for link in links]
