"""Move unpacked folders to where the datasets expect them, and repair known nestings."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from .unpack import archive_stem, unpack

DEPTH = 4  # of the folders that are looked into


def place(unpacked: Path, folder: Path, names: Mapping[str, str]) -> None:
    """Move what an archive contains into a dataset's folder.

    Args:
        unpacked: folder with the unpacked archive; archives in it that are named like a wanted
            folder are unpacked, too.
        folder: of the dataset.
        names: name of a folder or file in the archive -> path below ``folder``. The one nearest to
            the top is taken.
    """
    _unpack_inner(unpacked, names)
    for name, path in names.items():
        found = find(unpacked, name)
        if found is not None:
            merge(found, folder / path)


def repair(folder: Path, names: Mapping[str, str]) -> list[str]:
    """Lift folders that were unpacked one or more levels too deep; return what was moved.

    For example dtd/dtd/images becomes dtd/images, SUN397/SUN397 becomes SUN397 and sketch becomes
    images. Nothing is replaced.
    """
    moved = []
    for name, path in names.items():
        target = folder / path
        inner = _innermost(target, target.name)
        if inner != target:
            moved.append(f"{inner} to {target}")
            aside = target.with_name(f".{target.name}-repaired")
            inner.rename(aside)
            shutil.rmtree(target)  # folders of this name without any file
            aside.rename(target)
        if target.exists() or not folder.is_dir():
            continue
        found = find(folder, name)
        if found is not None:
            moved.append(f"{found} to {target}")
            target.parent.mkdir(parents=True, exist_ok=True)
            found.rename(target)
    return moved


def find(folder: Path, name: str) -> Path | None:
    """Return the folder or file of this name nearest to the top, without doubled folders."""
    level = [folder]
    for _ in range(DEPTH):
        below = [entry for path in level for entry in _entries(path)]
        for entry in below:
            if entry.name == name:
                return _innermost(entry, name)
        level = [entry for entry in below if entry.is_dir() and not entry.is_symlink()]
    return None


def merge(source: Path, target: Path) -> None:
    """Move a file or folder to ``target``; a folder that exists is filled up."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir() and target.is_dir():
        for entry in _entries(source):
            merge(entry, target / entry.name)
    elif source.is_dir() and not target.exists():
        source.rename(target)
    else:
        os.replace(source, target)


def _unpack_inner(unpacked: Path, names: Mapping[str, str]) -> None:
    for path in list(_files(unpacked, DEPTH)):
        if (
            archive_stem(path.name) in names
            and find(unpacked, archive_stem(path.name) or "") is None
        ):
            unpack(path, path.parent)
            path.unlink()


def _files(folder: Path, depth: int) -> Iterator[Path]:
    for entry in _entries(folder):
        if entry.is_file():
            yield entry
        elif depth > 1 and entry.is_dir():
            yield from _files(entry, depth - 1)


def _innermost(path: Path, name: str) -> Path:
    """Follow folders that contain nothing but a folder of the same name."""
    while path.is_dir() and not path.is_symlink() and os.listdir(path) == [name]:
        if not (path / name).is_dir():
            break
        path = path / name
    return path


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
