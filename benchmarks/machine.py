"""The facts about a machine without which a measurement says nothing."""

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch

__all__ = ["commit", "facts", "name_of"]


def facts(cuda: bool) -> dict[str, Any]:
    """Processor, cores, threads, memory, library versions and how busy the machine is."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory, 1),
        "bf16_on_cpu": "avx512_bf16" in _cpuinfo() or "amx_bf16" in _cpuinfo(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": "cpu",
    }
    if cuda:
        found["device"] = torch.cuda.get_device_name()
        found["cuda"] = torch.version.cuda
    return found


def name_of(found: dict[str, Any]) -> str:
    """A file name for the machine."""
    if found["device"] != "cpu":
        return _slug(found["device"])
    return _slug(f"{found['processor']} {found['threads']} threads")


def commit() -> str:
    """Of this checkout; "unknown" outside of one."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def _processor() -> str:
    match = re.search(r"^model name\s*: (.+)$", _cpuinfo(), re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()
