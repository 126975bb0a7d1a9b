"""Every command in the documents would be accepted, and every key, path and link exists."""

import argparse
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

import train
import trainers
from dassl.config import get_cfg_default
from dassl.config.table import leaves
from scripts import ablate, own, reproduce, run, sweep
from tests.document_text import (
    DOCUMENTS,
    FOREIGN,
    ROOT,
    anchors,
    blocks,
    commands,
    environment,
    inline_code,
    is_command,
    tables,
    without_environment,
)

TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text() for path in DOCUMENTS}
# (document, words of a command), each once
COMMANDS = list(
    {
        tuple(words): (name, words) for name, text in TEXTS.items() for words in commands(text)
    }.values()
)
PLANNERS = {"ablate": ablate, "reproduce": reproduce, "run": run, "sweep": sweep}
# Environment variables of other programs that the documents name.
OTHERS = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "SLURM_NNODES"}


class Accepted(BaseException):
    """A parser accepted its arguments; nothing more is run."""


@pytest.fixture
def only_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every parser of command lines raise `Accepted` in place of returning."""
    parse = argparse.ArgumentParser.parse_args

    def stop(*args: object, **options: object) -> None:
        parse(*args, **options)
        raise Accepted

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)


def test_commands_are_found_in_every_kind_of_code() -> None:
    text = """
Run `make demo` or `results.py --plot x.png`.

    DATA=/data scripts/coop/base2new.sh dtd 1    # a comment
    python train.py --seed 1 \\
        A.B 2 && pip install -r requirements.txt > log

```bash
#!/bin/bash
srun --nodes=1 python scripts/sweep.py
make test
```
"""
    assert list(commands(text)) == [
        ["make", "test"],
        ["DATA=/data", "scripts/coop/base2new.sh", "dtd", "1"],
        ["python", "train.py", "--seed", "1", "A.B", "2"],
        ["pip", "install", "-r", "requirements.txt"],
        ["make", "demo"],
        ["results.py", "--plot", "x.png"],
    ]
    assert len(COMMANDS) > 60


@pytest.mark.parametrize("command", COMMANDS, ids=lambda found: f"{found[0]}: {found[1][-1]}")
def test_command_is_accepted(
    command: tuple[str, list[str]],
    only_parse: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    env = {"OUTPUT": str(tmp_path), **environment(command[1])}
    words = without_environment(command[1])
    try:
        code = check(words, env, monkeypatch)
    except SystemExit as error:  # argparse
        code = error.code
    assert not code, (words, capsys.readouterr().err)


def check(words: list[str], env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Check one command: parse its arguments, and plan its jobs where this is possible."""
    if not words:  # RUN=folder alone
        return 0
    program, *arguments = [word for word in words if word != "..."]
    cut = "..." in words
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return int(not set(arguments) <= set(targets))
    if program == "torchrun":
        arguments = arguments[arguments.index("train.py") :]
    elif program not in ("python", "python3"):
        if program in FOREIGN:
            return check_files(arguments)
        if program.endswith(".sh"):
            return check_shell(program, arguments, env, monkeypatch)
        arguments = [program if "/" in program else f"scripts/{program}", *arguments]
    if arguments[:2] == ["-m", "pytest"]:
        return int(not all((ROOT / name).exists() for name in arguments[2:]))
    if arguments[0] == "-c":
        return int(compile(arguments[1], "-c", "exec") is None)
    if arguments[:2] in (["-m", "venv"], ["-m", "pip"]):
        return check_files(arguments)
    if arguments[0] == "-m":
        module, arguments = arguments[1], arguments[2:]
        module = "datasets.__main__" if module == "datasets" else module
    else:
        module, arguments = arguments[0].removesuffix(".py").replace("/", "."), arguments[1:]
    return check_module(module, arguments, env, monkeypatch, cut)


def check_files(words: list[str]) -> int:
    """Check that the requirement files of a pip command exist; return 1 if not."""
    return int(not all((ROOT / word).exists() for word in words if word.endswith(".txt")))


def check_module(
    module: str,
    words: list[str],
    env: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    cut: bool = False,
) -> int:
    """Check the arguments of a Python program; ``cut`` means that some were left out ("...")."""
    name = module.rpartition(".")[2]
    if module == "train":
        monkeypatch.undo()  # its parser must return
        os.chdir(ROOT)
        train.setup_cfg(train.build_parser().parse_args(words))  # reads the files and the pairs
        return 0
    if module == "scripts.own":  # its folder is the reader's
        with tempfile.TemporaryDirectory() as folder:
            own.parse([folder, *words[1:]], env)
        return 0
    if module == f"scripts.{name}" and name in PLANNERS:
        monkeypatch.undo()
        if name == "sweep" and "--trainers" not in words:  # the text is about the other options
            words = ["--trainers", "coop", "--datasets", "dtd", *words]
        if name == "reproduce" and not set(words) & {"--methods", "--datasets"}:
            reproduce.parse(words)  # tests/test_document_figures.py plans all jobs once
            return 0
        dry = [] if "--dry-run" in words else ["--dry-run"]
        return int(PLANNERS[name].main([*words, *dry], env) or 0)
    assert not cut, f"the rest of the arguments of {module} is not known"
    program = importlib.import_module(module)
    takes_env = "env" in inspect.signature(program.main).parameters
    with pytest.raises(Accepted):
        raise SystemExit(program.main(words, env) if takes_env else program.main(words))
    return 0


def check_shell(
    program: str, words: list[str], env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> int:
    """Check a shell script: as the Python program behind it, or by its own dry run."""
    path = ROOT / program
    assert os.access(path, os.X_OK), program
    text = path.read_text()
    behind = re.search(r'^exec bash "\$\(dirname "\$0"\)/python.sh" (\w+).py', text, re.MULTILINE)
    if behind:
        return check_module(f"scripts.{behind[1]}", words, env, monkeypatch)
    if len(text.splitlines()) == 2:
        assert "protocol.sh" in text
        words = [path.parent.name, path.stem, *words]
        return check_module("scripts.run", words, env, monkeypatch)
    done = subprocess.run(
        [program, *words],
        cwd=ROOT,
        env={**os.environ, **env, "TEXTREFINER_DRY_RUN": "1", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("train.py") in (1, 3), done.stderr
    for line in done.stdout.splitlines():
        _, _, rest = line.partition("train.py ")
        check_module("train", shlex.split(rest), env, monkeypatch)
    return done.returncode


@pytest.mark.parametrize("name", TEXTS)
def test_settings_exist(name: str) -> None:
    """A dotted key is a setting or a section; other names in capitals are in the code."""
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    keys = [key for key, _ in leaves(cfg)]
    levels = [key.split(".") for key in keys]
    tails = {".".join(level[i:j]) for level in levels for j in range(9) for i in range(j)}
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for pattern in ("*.py", "scripts/**/*.py", "scripts/**/*.sh", "*/*.py", "*/*/*.py")
        for path in ROOT.glob(pattern)
        if path.is_relative_to(ROOT) and ".venv" not in path.parts
    )
    words = set(re.findall(r"(?<![\w/.<$\"'-])[A-Z][A-Z_]+(?:\.[A-Z]\w*)+", TEXTS[name]))
    words |= set(re.findall(r"(?<![\w/.<$\"'-])[A-Z]+_[A-Z_0-9]+(?![\w.])", TEXTS[name]))
    unknown = {word for word in words - tails - OTHERS if "." in word or word not in code}
    assert not unknown


@pytest.mark.parametrize("name", TEXTS)
def test_names_of_trainers_and_shell_scripts_exist(name: str) -> None:
    scripts = {path.name for path in (ROOT / "scripts").rglob("*.sh")}
    scripts.add("valprep.sh")  # of ImageNet
    assert set(re.findall(r"(?<![\w.])[a-z]\w*\.sh\b", TEXTS[name])) <= scripts
    flags = " ".join(
        path.read_text()
        for path in (*ROOT.glob("*.py"), *ROOT.glob("*/*.py"), *ROOT.glob("scripts/*/*.py"))
    )
    for code in inline_code(TEXTS[name]):
        if not is_command(code.split()) and re.fullmatch(r"--[a-z-]+( [^-]*)?", code):
            flag = code.split()[0]
            assert f'"{flag}"' in flags or flag in ("--help", "--repo-type"), code


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_to_files_and_headings(name: str) -> None:
    text = re.sub(r"^```.*?^```", "", TEXTS[name], flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text()), target


@pytest.mark.parametrize("name", TEXTS)
def test_quoted_headings_exist(name: str) -> None:
    """A reference such as ([protocols.md](protocols.md), "Seeds") names a heading there."""
    for target, heading in re.findall(r"\]\(([\w./]+\.md)\),\s+\"([^\"]+)\"", TEXTS[name]):
        text = ((ROOT / name).parent / target).read_text()
        heading = re.sub(r"\s+", " ", heading)
        assert re.search(rf"^#+ {re.escape(heading)}$", text, re.MULTILINE), (target, heading)


@pytest.mark.parametrize("name", TEXTS)
def test_tables_have_rows_of_one_width(name: str) -> None:
    """A row of another width is shown with cells missing or cut off."""
    for table in tables(TEXTS[name]):
        assert {len(row) for row in table} == {len(table[0])}, table[0]
    assert all("\t" not in code for _, code in blocks(TEXTS[name]))
