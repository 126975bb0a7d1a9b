"""Unpacking archives that mean harm, are damaged, or do not fit on the disk."""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from datasets.download.errors import FetchError, SourceError
from datasets.download.unpack import unpack
from tests.datasets.download.archives import member, special_tar, tar_gz, zipped

SYM, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE


def unpack_bytes(content: bytes, tmp_path: Path) -> Path:
    """Unpack an archive into ``tmp_path``/safe/out, and return that folder."""
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    out = tmp_path / "safe" / "out"
    unpack(archive, out)
    return out


def zip_link(name: str, target: str) -> bytes:
    """Return a zip with a symbolic link."""
    out = io.BytesIO()
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(info, target)
    return out.getvalue()


HOSTILE = {
    "tar, parent": (tar_gz([("a/../../evil", b"x")]), "leaves the folder"),
    "tar, absolute": (tar_gz([("/tmp/evil-absolute", b"x")]), "leaves the folder"),
    "tar, drive": (tar_gz([("C:/evil", b"x")]), "leaves the folder"),
    "zip, parent": (zipped([("../evil", b"x")]), "leaves the folder"),
    "zip, backslash": (zipped([("..\\evil", b"x")]), "leaves the folder"),
    "zip, absolute": (zipped([("/tmp/evil-absolute", b"x")]), "leaves the folder"),
    "zip, link": (zip_link("link", "/etc/passwd"), "is a link or device"),
    "tar, absolute link": (special_tar(member("a", SYM, "/etc/passwd")), "outside the archive"),
    "tar, link out": (special_tar(member("a/b", SYM, "../../x")), "outside the archive"),
    "tar, hard link out": (special_tar(member("a/b", HARD, "../x")), "outside the archive"),
    "tar, hard link to a file of the disk": (
        special_tar(member("a", HARD, "etc/passwd")),
        "damaged",
    ),
    "tar, device": (special_tar(member("a", tarfile.CHRTYPE)), "special file"),
    "tar, block device": (special_tar(member("a", tarfile.BLKTYPE)), "special file"),
    "tar, pipe": (special_tar(member("a", tarfile.FIFOTYPE)), "special file"),
    "tar, sparse": (special_tar(member("a", tarfile.GNUTYPE_SPARSE)), "sparse or another special"),
    "tar, link to a folder": (
        special_tar(member("d", tarfile.DIRTYPE), member("a", SYM, "d")),
        "link to a folder",
    ),
    "not an archive": (b"<html>too many downloads</html>", "damaged or no archive"),
    "empty": (b"", "damaged or no archive"),
    "cut": (tar_gz([("a", bytes(range(256)) * 900)])[:300], "damaged"),
    "file in place of a folder": (tar_gz([("a", b"x"), ("a/b", b"x")]), "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_damaged_archives_are_refused(name: str, tmp_path: Path) -> None:
    content, message = HOSTILE[name]
    with pytest.raises(SourceError, match=message):
        unpack_bytes(content, tmp_path)
    outside = {path.name for path in tmp_path.rglob("*")} - {"archive", "safe", "out", "a", "d"}
    assert not outside
    assert not Path("/tmp/evil-absolute").exists()
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_links_inside_an_archive_become_copies(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("images/a.jpg")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
        tar.addfile(member("images/b.jpg", HARD, "images/a.jpg"))
        tar.addfile(member("images/c.jpg", SYM, "a.jpg"))
    folder = unpack_bytes(out.getvalue(), tmp_path) / "images"
    assert sorted(path.name for path in folder.iterdir()) == ["a.jpg", "b.jpg", "c.jpg"]
    assert all(path.read_bytes() == b"abc" and not path.is_symlink() for path in folder.iterdir())


def test_executable_bits_and_owners_are_not_kept(tmp_path: Path) -> None:
    info = tarfile.TarInfo("run.sh")
    info.mode = 0o6777
    path = unpack_bytes(special_tar(info), tmp_path) / "run.sh"
    assert not path.stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)


@pytest.mark.parametrize("make", [tar_gz, zipped])
def test_an_archive_larger_than_the_disk_stops(
    make: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=1000))
    content = make([("a", bytes(600)), ("b", bytes(600))])  # type: ignore[operator]
    with pytest.raises(FetchError, match="unpacks to more than the free space"):
        unpack_bytes(content, tmp_path)
    assert (
        sum(path.stat().st_size for path in (tmp_path / "safe").rglob("*") if path.is_file()) < 1000
    )


def test_a_zip_that_understates_its_size_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped([("a", b"x" * 5000)]))
    size = (5000).to_bytes(4, "little")
    at = content.rindex(size)  # the uncompressed size in the directory, the last of its fields
    content[at : at + 4] = (10).to_bytes(4, "little")
    with pytest.raises(SourceError):
        unpack_bytes(bytes(content), tmp_path)
    assert (tmp_path / "safe/out/a").stat().st_size <= 10
