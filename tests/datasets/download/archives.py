"""Archives of toy datasets in the layouts of the real ones, and hostile archives."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from datasets.download.catalog import Entry, catalog
from datasets.download.sources import Origin, Part, Source
from tests.toy_layouts import LAYOUTS


def tar_gz(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a tar.gz with files by name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zipped(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a zip with files by name."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files:
            archive.writestr(name, content)
    return out.getvalue()


def special_tar(*members: tarfile.TarInfo) -> bytes:
    """Return a tar of members without content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member in members:
            tar.addfile(member)
    return out.getvalue()


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """Return a link or special file for `special_tar`."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


class Toy:
    """A toy dataset: its split file, its images by path, and sources on a server."""

    def __init__(self, name: str, scratch: Path) -> None:
        self.layout = LAYOUTS[catalog()[name].cls.__name__]
        self.name = name
        split = self.layout.make(scratch)
        self.split = json.dumps(split).encode()
        folder = scratch / self.layout.folder / self.layout.images
        self.images = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*.jpg"))
        }

    def entry(self, *parts: Part) -> Entry:
        """Return the dataset with these parts."""
        known = catalog()[self.name]
        assert known.origin is not None
        origin = Origin(license="toy", parts=list(parts), place=known.origin.place)
        return Entry(self.name, known.cls, origin)

    def split_part(self, *urls: str) -> Part:
        """Return the split file with its sources."""
        sources = [source(url, self.split) for url in urls]
        return Part(creates=[self.layout.split_file], sources=sources)

    def image_part(self, *sources: Source, folder: str | None = None) -> Part:
        """Return the image folder with its sources."""
        return Part(creates=[folder or self.layout.images], sources=list(sources), unpack=True)

    def files(self, prefix: str) -> list[tuple[str, bytes]]:
        """Return the images with a folder before their paths."""
        return [(f"{prefix}/{path}", content) for path, content in self.images.items()]


def source(url: str, content: bytes, name: str = "", **changes: object) -> Source:
    """Return the source of a file with its size and SHA-256."""
    known = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), **changes}
    return Source(url=url, name=name or url.rsplit("/", 1)[1], **known)  # type: ignore[arg-type]
