"""The output folder of an export, which appears complete or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from dassl.utils import UsageError
from dassl.utils.schema import Record, read_checked

MARKER = "export.json"  # contains what the other files do not: class names, image transform, run
MADE_BY = "scripts/export.py"


class Marker(Record):
    """The field of export.json that tells an export from other folders."""

    made_by: Literal["scripts/export.py"]


def check_target(out: Path) -> None:
    """Raise UsageError unless ``out`` is missing, an empty folder or an earlier export."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    refusal = f"{str(out)!r} exists and is not an earlier export: choose another folder"
    if not out.is_dir():
        raise UsageError(refusal)
    try:
        read_checked(out / MARKER, Marker, "choose another folder")
    except UsageError as error:
        raise UsageError(refusal) from error


@contextmanager
def new_export(out: Path) -> Iterator[Path]:
    """Yield a hidden folder that replaces ``out`` if the block succeeds, and is removed otherwise.

    An OSError of a file in it names ``out``.
    """
    check_target(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        try:
            yield temporary
            temporary.chmod(0o755)
            _replace(temporary, out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        inside = error.filename is None or str(error.filename).startswith(str(temporary))
        if error.errno is None or not inside:
            raise
        raise OSError(error.errno, error.strerror, str(out)) from error


def _replace(new: Path, out: Path) -> None:
    """Rename ``new`` to ``out``; an earlier export is removed after that."""
    if not out.exists():
        new.rename(out)
        return
    old = new.with_name(f"{new.name}.old")
    out.rename(old)
    try:
        new.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old)
