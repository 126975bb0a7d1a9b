"""Versions and hardware of a run."""

import os
import platform
import subprocess
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "scikit-learn", "open_clip_torch", "yacs")


def collect_env_info() -> str:
    """Return Python, platform, processors, GPUs and library versions as lines of text."""
    import torch  # slow to import; `library_versions` does not need it

    lines = [
        f"python: {platform.python_version()}",
        f"platform: {platform.platform()}",
        f"cpu: {platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads",
        f"cuda: {_describe_cuda()}",
    ]
    return "\n".join(lines + [f"{name}: {_version_of(name)}" for name in PACKAGES])


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that can change results."""
    names = ("torch", "torchvision", "open_clip_torch", "numpy")
    return {"python": platform.python_version(), **{name: _version_of(name) for name in names}}


@cache
def git_commit() -> str | None:
    """Return the commit of this repository, with "-dirty" if files were changed, or None."""
    root = Path(__file__).resolve().parents[2]
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    command = ["git", "-C", str(root), *describe]
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def now() -> str:
    """Return the local time as ISO 8601 text, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _describe_cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"not available (built for {torch.version.cuda})"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{torch.version.cuda}, cudnn {torch.backends.cudnn.version()}, {', '.join(names)}"


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
