"""Unpack tar and zip archives of unknown origin into an empty folder.

Only regular files are written, each at a path inside the folder. Links are never created: one that
points to a file of the same archive becomes a copy, any other is refused. Devices, absolute paths
and paths with ".." are refused, and so is an archive that needs more space than there is.
"""

import errno
import posixpath
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from .errors import FetchError, SourceError
from .http import naming

RESERVE = 256 << 20  # bytes that stay free on the disk
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
_CHUNK = 1 << 20
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # the first bytes of a zip, and of an empty one
_JUNK = ("__MACOSX", ".DS_Store")  # macOS adds these, and files named ._*
_DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, zlib.error,
    NotImplementedError, RuntimeError, UnicodeError, ValueError, IndexError, KeyError,
)  # fmt: skip
# Errors of the machine that an archive causes: names that clash or are not allowed, odd offsets.
_CAUSED = (
    errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL,
    errno.EOVERFLOW,
)  # fmt: skip


@dataclass
class _Budget:
    """The number of bytes that may still be written."""

    archive: str
    folder: Path
    left: int

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise FetchError(
                f"{self.archive} unpacks to more than the free space of {self.folder} less "
                f"{RESERVE >> 20} MiB: free some space, or choose another --root"
            )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar (plain or gzip) or zip archive into ``folder``, which is created.

    Raises:
        SourceError: the archive is damaged, is none, or has a member that is not allowed.
        FetchError: its content does not fit on the disk.
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    budget = _Budget(archive.name, folder, shutil.disk_usage(folder).free - RESERVE)
    with _damage_named(archive), naming(archive):
        with archive.open("rb") as file:
            magic = file.read(4)
        if magic in _ZIP:
            _unpack_zip(archive, folder, budget)
        else:
            _unpack_tar(archive, folder, budget)


@contextmanager
def unpacked(archive: Path, folder: Path) -> Iterator[Path]:
    """Yield ``folder`` with the content of an archive and nothing else; remove it at the end."""
    if folder.exists():  # of a run that was killed
        shutil.rmtree(folder)
    try:
        unpack(archive, folder)
        yield folder
    finally:
        if folder.exists():
            shutil.rmtree(folder)


@contextmanager
def _damage_named(archive: Path) -> Iterator[None]:
    """Turn what the libraries raise for a damaged archive into a SourceError."""
    try:
        yield
    except SourceError as error:
        raise SourceError(f"{archive.name} is refused: {error}") from error
    except FetchError:
        raise
    except _DAMAGED as error:
        raise SourceError(f"{archive.name} is damaged or no archive ({_line(error)})") from error
    except OSError as error:
        if error.errno is None or error.errno in _CAUSED:  # gzip reports damage without a number
            raise SourceError(f"{archive.name} is damaged ({_line(error)})") from error
        raise


def _unpack_zip(archive: Path, folder: Path, budget: _Budget) -> None:
    with zipfile.ZipFile(archive) as file:
        infos = [info for info in file.infolist() if not _is_junk(info.filename)]
        total = sum(info.file_size for info in infos)
        budget.take(total)
        budget.left += total  # taken again while the files are written
        with _bar(archive, total) as bar:
            for info in infos:
                target = _inside(folder, info.filename)
                kind = stat.S_IFMT(info.external_attr >> 16)
                if info.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                if kind not in (0, stat.S_IFREG):
                    raise SourceError(f"{info.filename!r} is a link or device")
                with file.open(info) as content:
                    _write(content, target, info.file_size, budget, bar)


def _unpack_tar(archive: Path, folder: Path, budget: _Budget) -> None:
    with tarfile.open(archive, "r:*") as file, _bar(archive, None) as bar:
        for member in file:
            if _is_junk(member.name):
                continue
            target = _inside(folder, member.name)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            if member.issym() or member.islnk():
                _check_link(member)
            elif member.issparse() or not member.isreg():
                raise SourceError(f"{member.name!r} is a device, a sparse or another special file")
            content = file.extractfile(member)
            if content is None:
                raise SourceError(f"{member.name!r} is a link to a folder")
            with content:
                _write(content, target, None, budget, bar)


def _check_link(member: tarfile.TarInfo) -> None:
    """Raise a SourceError unless a link's target is in the archive; hard links name it by path."""
    base = posixpath.dirname(member.name) if member.issym() else ""
    target = posixpath.normpath(posixpath.join(base, member.linkname))
    if target.startswith(("/", "..")) or member.linkname.startswith("/"):
        raise SourceError(f"{member.name!r} is a link to {member.linkname!r}, outside the archive")


def _inside(folder: Path, name: str) -> Path:
    """Return the path of a member below ``folder``; raise a SourceError if it is elsewhere."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or "\0" in name or ":" in parts[0]:
        raise SourceError(f"the path {name!r} leaves the folder")
    return folder.joinpath(*(part for part in parts if part not in ("", ".")))


def _is_junk(name: str) -> bool:
    parts = name.split("/")
    return any(part in _JUNK for part in parts) or parts[-1].startswith("._")


def _write(
    content: IO[bytes], target: Path, size: int | None, budget: _Budget, bar: "tqdm[Any]"
) -> None:
    """Write a member; ``size`` is what a zip's directory says, which may be a lie."""
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with naming(target), open(target, "wb") as out:
        while chunk := content.read(_CHUNK):
            written += len(chunk)
            if size is not None and written > size:
                raise SourceError(f"{target.name!r} is larger than the archive says")
            budget.take(len(chunk))
            out.write(chunk)
            bar.update(len(chunk))


def _bar(archive: Path, total: int | None) -> "tqdm[Any]":
    desc = f"unpacking {archive.name}"
    return tqdm(total=total, unit="B", unit_scale=True, desc=desc, disable=None)


def archive_stem(name: str) -> str | None:
    """Return a file name without the suffix of an archive; None if it has no such suffix."""
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return None


def _line(error: BaseException) -> str:
    text = (str(error).strip().splitlines() or [""])[0][:160]
    return text or type(error).__name__
