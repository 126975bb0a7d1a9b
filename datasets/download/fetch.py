"""Fetch what is missing of one dataset: lock, download, verify, unpack, place."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout

from dassl.utils.file_set import acquire_now

from .address import on_mirror, resolve
from .catalog import Entry, gigabytes
from .drive import download_from_drive
from .errors import FetchError, SourceError
from .http import download
from .inventory import Inventory, take_inventory
from .place import place, repair
from .sources import Origin, Part, Source
from .unpack import unpacked
from .verify import verify

WORK = ".fetch"  # folder below the data folder with unfinished downloads and locks
CLASSNAMES = "classnames.txt"


@dataclass(frozen=True)
class Options:
    """What the user chose: the data folder, another host, whether archives are kept."""

    root: Path
    mirror: str | None = None
    keep: bool = False


def fetch(entry: Entry, options: Options) -> bool:
    """Fetch what is missing of a dataset; return whether anything was fetched or moved.

    Raises:
        FetchError: a part could not be fetched from any source, or another process is at it.
        OSError: the data folder cannot be written.
    """
    origin = entry.origin
    if origin is None:
        raise FetchError(f"{entry.name} is drawn at first use and needs no download")
    folder, work = entry.folder(options.root), options.root / WORK / entry.name
    with locked(work):
        moved = repair(folder, origin.place)
        for line in moved:
            print(f"{entry.name}: moved {line}")
        fetched = [part for part in origin.parts if _fetch_part(entry, origin, part, options, work)]
        if not options.keep and work.exists():
            shutil.rmtree(work)
    return bool(moved or fetched)


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """Let one process at a time work in a folder; raise a FetchError if another one does."""
    work.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{work}.lock")
    try:
        acquire_now(lock)
    except Timeout:
        raise FetchError(
            f"another process is fetching into {work}: wait for it, or stop it first"
        ) from None
    try:
        yield
    finally:
        lock.release()


def missing_parts(entry: Entry, root: Path) -> list[Part]:
    """Return the parts of a dataset that are missing or incomplete."""
    if entry.origin is None:
        return []
    inventory = take_inventory(entry, root)
    return [part for part in entry.origin.parts if _is_missing(part, inventory)]


def _is_missing(part: Part, inventory: Inventory) -> bool:
    if any(path in inventory.absent for path in part.creates):
        return True
    below = tuple(f"{path}/" for path in part.creates)
    return part.unpack and (
        inventory.too_few > 0 or any(path.startswith(below) for path in inventory.missing)
    )


def _fetch_part(entry: Entry, origin: Origin, part: Part, options: Options, work: Path) -> bool:
    """Fetch a part unless it is there; return whether it was missing."""
    if part not in missing_parts(entry, options.root):
        return False
    folder = entry.folder(options.root)
    if part.creates == [CLASSNAMES] and _copy_classnames(part, folder, options.root):
        return True
    reasons: list[str] = []
    sources = part.sources
    if options.mirror:
        sources = [on_mirror(source, options.mirror, entry.name) for source in sources]
        sources = list({source.url: source for source in sources}.values())
    for number, source in enumerate(sources, start=1):
        try:
            archive = obtain(source, work)
            _install(archive, part, origin, folder, work)
            if part in missing_parts(entry, options.root):
                raise SourceError(f"{source.name} does not contain all of {_names(part)}")
        except SourceError as error:
            next_step = (
                "trying the next source" if number < len(sources) else "it was the last source"
            )
            print(f"{entry.name}: {source.url}: {error}: {next_step}")
            reasons.append(f"{source.url}: {error}")
            continue
        if not options.keep:
            archive.unlink(missing_ok=True)
        return True
    raise FetchError(f"no source of {_names(part)} can be used ({'; '.join(reasons)})")


def obtain(source: Source, work: Path) -> Path:
    """Return the verified file of a source, downloaded to ``work`` unless it is there.

    A download that stops is kept as a .part file and continued next time. A file with another
    checksum is deleted.
    """
    work.mkdir(parents=True, exist_ok=True)
    final = work / source.name
    address = resolve(source)
    source = address.source
    if final.exists() and _is_valid(final, source):
        return final
    if source.url.startswith("drive://"):
        print(f"{source.name}: from Google Drive")
        download_from_drive(source.url.removeprefix("drive://"), final)
        _verify(final, source)
        return final
    part = work / f"{source.name}-{_key(source)}.part"
    print(f"{source.name}: from {address.url}")

    def make_room(size: int) -> None:
        free = shutil.disk_usage(work).free
        if size > free:
            raise FetchError(
                f"{source.name} needs {gigabytes(size)} more, but {work} has {gigabytes(free)} "
                "free: free some space, or choose another --root"
            )

    download(address.url, part, address.headers, source.bytes, make_room)
    _verify(part, source)
    os.replace(part, final)
    return final


def _key(source: Source) -> str:
    """Return a short name of the content, so that hosts of one file continue one download."""
    known = source.sha256 or source.git or source.md5
    return known[:8] if known else sha256(source.url.encode()).hexdigest()[:8]


def _is_valid(path: Path, source: Source) -> bool:
    """Return whether a file of an earlier run is that of the source; delete it if not."""
    try:
        _verify(path, source)
    except SourceError as error:
        print(f"{error}")
        return False
    return True


def _verify(path: Path, source: Source) -> None:
    """Delete a file and raise a SourceError unless it is that of the source."""
    print(f"{source.name}: verifying {gigabytes(path.stat().st_size)}")
    try:
        verify(path, source)
    except SourceError as error:
        path.unlink()
        raise SourceError(f"{error}, so it was deleted") from error


def _install(archive: Path, part: Part, origin: Origin, folder: Path, work: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not part.unpack:
        shutil.copyfile(archive, archive.with_name(f"{archive.name}.copy"))
        os.replace(archive.with_name(f"{archive.name}.copy"), folder / part.creates[0])
        return
    try:
        with unpacked(archive, work / "unpacked") as content:
            place(content, folder, origin.place)
    except SourceError:
        archive.unlink()  # it is of no use, whatever its checksum
        raise


def _copy_classnames(part: Part, folder: Path, root: Path) -> bool:
    """Copy ImageNet's classnames.txt from another dataset's folder if there is one."""
    for path in sorted(root.glob(f"imagenet*/{CLASSNAMES}")):
        try:
            verify(path, part.sources[0])
        except SourceError as error:
            print(f"{path} is not used: {error}")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / CLASSNAMES)
        return True
    return False


def _names(part: Part) -> str:
    return ", ".join(part.creates)
