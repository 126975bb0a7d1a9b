"""What the command lines of the measurements share: options, the heading of a result, its files."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dassl.utils import write_json
from dassl.utils.tools import atomic_path

from . import machine

__all__ = ["RESULTS", "heading", "new_parser", "save"]

RESULTS = Path(__file__).parent / "results"


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with --threads, --output and --toy."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=2, help="of the CPU (default: 2)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--toy", action="store_true", help="toy CLIPs: tests the program only")
    return parser


def heading(module: str, argv: Sequence[str] | None, cuda: bool) -> dict[str, Any]:
    """The command, the commit and the machine's facts, taken before anything is measured."""
    words = sys.argv[1:] if argv is None else argv
    return {
        "command": " ".join([f"python -m {module}", *words]),
        "commit": machine.commit(),
        "machine": machine.facts(cuda),
    }


def save(results: dict[str, Any], text: str, args: argparse.Namespace, kind: str = "") -> str:
    """Write <machine><kind>.json and, with ``text``, .md; returns where, for a reader."""
    name = machine.name_of(results["machine"]) + kind + ("-toy" if args.toy else "")
    write_json(results, args.output / f"{name}.json")
    with atomic_path(args.output / f"{name}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return f"{args.output / name}.json and .md"
