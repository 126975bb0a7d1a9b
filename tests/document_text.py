"""Read the documents: their commands, tables and links."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = ("", "bash", "sh", "console")  # languages of fenced blocks that contain commands
SCRIPTS = ("ablate.py", "reproduce.py", "results.py", "run.py", "sweep.py")  # without scripts/
# Their arguments are not this project's, so only the form of these commands is checked.
FOREIGN = ("cd", "cp", "export", "git", "pip", "python", "python3", "source")


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield (language, code) of fenced blocks, and ("", code) of indented ones."""
    fence = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    yield from fence.findall(text)
    for code in re.findall(r"(?:^    .*\S.*\n)+", fence.sub("", text), re.MULTILINE):
        yield "", re.sub(r"^    ", "", code, flags=re.MULTILINE)


def inline_code(text: str) -> list[str]:
    """Return the code between single backticks outside fenced blocks, each on one line."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]+)`", text)]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every command of this project or a FOREIGN one, without its comment.

    Environment variables before a command come first, as they are written. Raise AssertionError
    for a line that is no command in a block that has one.
    """
    for language, code in blocks(text):
        if language not in SHELL:
            continue
        lines = re.sub(r"\\\n\s*", "", code).splitlines()
        if any(is_command(line.split()) for line in lines if line[:1] != " "):
            for part in (part for line in lines for part in _split(line)):
                known = is_command(part) or _program(part) in ("", *FOREIGN)
                assert known or language == "bash", part  # a whole script may run anything
                if known:
                    yield part
    for code in inline_code(text):
        if " " in code and (is_command(code.split()) or code.startswith(SCRIPTS)):
            yield from _split(code)


def _split(line: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell line; a redirection ends it."""
    line = re.sub(r"\[(KEY VALUE \.\.\.)\]", "", line)  # optional pairs
    line = re.sub(r"\[(--[^\]]+)\]", r"\1", line)  # an optional flag is given
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";<>|&")
    lexer.whitespace_split = True
    words = list(lexer)
    if "<" in words:  # a pattern such as scripts/<method>/<protocol>.sh
        return
    part: list[str] = []
    skip = False
    for word in [*words, ";"]:
        if set(word) <= set(";|&"):
            if part:
                yield part
            part, skip = [], False
        elif word == ">":
            skip = True
        elif not skip:
            part.append(word)


def environment(words: list[str]) -> dict[str, str]:
    """Return the environment variables in front of a command."""
    given = {}
    for word in words:
        if not re.match(r"[A-Z_]+=", word):
            break
        name, _, given_value = word.partition("=")
        given[name] = given_value
    return given


def without_environment(words: list[str]) -> list[str]:
    """Return a command without the environment variables in front of it."""
    return words[len(environment(words)) :]


def _program(words: list[str]) -> str:
    return next(iter(without_environment(words)), "")


def is_command(words: list[str]) -> bool:
    """Return whether the words run something of this project."""
    name = _program(words)
    if name in ("python", "python3"):
        return "venv" not in words and "pip" not in words and len(words) > 1
    return name in ("make", "torchrun") or (
        name.startswith("scripts/") and name.endswith((".sh", ".py"))
    )


def tables(text: str) -> list[list[list[str]]]:
    """Return the tables as rows of cells, headers included, bold marks removed."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        rows = [
            [cell.replace("**", "").strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in block.splitlines()
        ]
        found.append([rows[0], *rows[2:]])
    return found


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head).replace("`", "") for head in heads]
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in plain}
