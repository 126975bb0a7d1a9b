"""Compare a downloaded file with its known size and checksums."""

import hashlib
import re
from pathlib import Path

from .errors import SourceError
from .sources import Source

_TEXT = (".json", ".txt")
_CHUNK = 1 << 20
_CLASS = re.compile(r"n\d{8} \S.*")


def verify(path: Path, source: Source) -> None:
    """Raise a SourceError that names both sizes or sums unless the file is that of ``source``.

    Text files may end with another number of line breaks. A source without any sum is checked by
    its size only, and classnames.txt by its lines.
    """
    name = source.name
    content = path.read_bytes() if name.endswith(_TEXT) else None
    size = path.stat().st_size
    if name == "classnames.txt":
        _verify_classnames(content or b"")
    sums = {kind: getattr(source, kind) for kind in ("sha256", "md5", "git")}
    expected = next(((kind, value) for kind, value in sums.items() if value), None)
    if expected is None:
        if source.bytes not in (None, size):
            raise SourceError(f"{name} has {size:,} bytes instead of {source.bytes:,}")
        return
    kind, value = expected
    found = file_digest(path, kind)
    if found == value:
        return
    if content is not None and value in {
        digest(content.rstrip() + end, kind) for end in (b"", b"\n", b"\r\n")
    }:
        return
    label = {"sha256": "SHA-256", "md5": "MD5", "git": "git hash"}[kind]
    raise SourceError(f"the {label} of {name} is {found} instead of {value}")


def file_digest(path: Path, kind: str) -> str:
    """Return the hexadecimal "sha256", "md5" or "git" (blob) hash of a file."""
    hasher = _hasher(kind, path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def digest(content: bytes, kind: str) -> str:
    """Return the hexadecimal "sha256", "md5" or "git" (blob) hash of ``content``."""
    hasher = _hasher(kind, len(content))
    hasher.update(content)
    return hasher.hexdigest()


def _hasher(kind: str, size: int) -> "hashlib._Hash":
    if kind == "git":
        return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    return hashlib.new(kind, usedforsecurity=kind != "md5")


def _verify_classnames(content: bytes) -> None:
    lines = content.decode(errors="replace").split("\n")
    named = [line for line in lines if line.strip()]
    wrong = next((line for line in named if not _CLASS.fullmatch(line.strip())), None)
    if wrong is not None or len(named) != 1000:
        what = f"has the line {wrong[:60]!r}" if wrong is not None else f"has {len(named)} lines"
        raise SourceError(
            f"classnames.txt {what}, but must have 1,000 lines like 'n01440764 tench'"
        )
