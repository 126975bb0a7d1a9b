"""What would be fetched, from where and how much; licenses, and the user's consent."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from dassl.utils import UsageError

from .address import on_mirror
from .catalog import Entry, gigabytes, table
from .fetch import missing_parts


def show_plan(entries: Sequence[Entry], root: Path, mirror: str | None) -> str:
    """Return the parts that are missing, with the first source and the size of each.

    Nothing is downloaded or written, and no network is needed.
    """
    rows = [("dataset", "missing", "size", "first source", "others")]
    total, unknown = 0, 0
    for entry in entries:
        for part in missing_parts(entry, root):
            source, *others = part.sources
            if mirror:
                source, others = on_mirror(source, mirror, entry.name), []
            total += source.bytes or 0
            unknown += source.bytes is None
            names = ", ".join(part.creates[:1]) + (", ..." if len(part.creates) > 1 else "")
            rows.append((entry.name, names, gigabytes(source.bytes), source.url, str(len(others))))
    if len(rows) == 1:
        return f"nothing is missing in {root}"
    sizes = f"{gigabytes(total)} to download"
    if unknown:
        sizes += f", and {unknown} files of unknown size"
    return f"{table(rows)}\n{sizes}; unpacking needs about as much again; {free_space(root)}"


def free_space(root: Path) -> str:
    """Return the free space of the disk of a folder, which need not exist yet."""
    path = root.absolute()
    while not path.exists():
        path = path.parent
    return f"{gigabytes(shutil.disk_usage(path).free)} are free on the disk of {root}"


def show_licenses(entries: Sequence[Entry]) -> str:
    """Return one line with the license of each dataset."""
    return "\n".join(f"{e.name}: {e.origin.license}" for e in entries if e.origin)


def require_consent(yes: bool) -> None:
    """Ask whether to go on; raise a UsageError if the answer is not yes.

    ``yes`` answers beforehand (--yes); without it, a terminal is needed.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "the licenses above must be accepted: add --yes to the command if you accept them"
        )
    print("Accept these terms and download? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was downloaded, since the terms were not accepted")
