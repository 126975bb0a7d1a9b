"""Shared parts of the benchmark commands: options, facts about the machine and result files."""

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from dassl.utils import atomic_path, write_json

from .world import SIZES, TOY, World

__all__ = ["machine_facts", "new_parser", "run"]


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with --threads, --output and --toy."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    results = Path(__file__).parent / "results"
    parser.add_argument("--threads", type=int, default=2, help="number of CPU threads (default: 2)")
    parser.add_argument("--output", type=Path, default=results, help="folder of the results")
    parser.add_argument("--toy", action="store_true", help="use toy CLIPs, to test the benchmark")
    return parser


def run(
    name: str,
    argv: Sequence[str] | None,
    args: argparse.Namespace,
    measure: Callable[[World, dict[str, Any]], None],
    markdown: Callable[[dict[str, Any]], str],
    suffix: str = "",
    cuda: bool = False,
) -> dict[str, Any]:
    """Run a benchmark in a temporary folder and write <machine><suffix>.json and .md.

    ``measure`` adds its measurements to the results, which contain the command, the commit and the
    facts about the machine; ``markdown`` renders them. ``argv`` None is sys.argv[1:].
    """
    torch.set_num_threads(args.threads)
    words = sys.argv[1:] if argv is None else argv
    results: dict[str, Any] = {
        "command": " ".join([f"python -m benchmarks.{name}", *words]),
        "commit": _commit(),
        "machine": machine_facts(cuda),
    }
    with tempfile.TemporaryDirectory(prefix="textrefiner-bench-") as folder:
        measure(World(Path(folder), TOY if args.toy else SIZES, cuda), results)
    machine = results["machine"]
    cpu = f"{machine['processor']} {machine['threads']} threads"
    stem = re.sub("[^a-z0-9]+", "-", (machine["device"] if cuda else cpu).lower()).strip("-")
    stem = str(args.output / f"{stem}{suffix}{'-toy' if args.toy else ''}")
    write_json(results, f"{stem}.json")
    with atomic_path(f"{stem}.md") as temporary:
        temporary.write_text(markdown(results), encoding="utf-8")
    print(f"wrote {stem}.json and .md")
    return results


def machine_facts(cuda: bool) -> dict[str, Any]:
    """Return processor, cores, threads, memory, load and library versions."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    model = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    facts = {
        "processor": model[1].strip() if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory, 1),
        "bf16_on_cpu": "avx512_bf16" in text or "amx_bf16" in text,
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
    }
    return facts | ({"cuda": torch.version.cuda} if cuda else {})


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    folder = Path(__file__).parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
