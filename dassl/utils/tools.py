"""Utilities for files, folders and names."""

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from .elsewhere import names_elsewhere
from .errors import UsageError, nearest

PathLike = str | os.PathLike[str]
# Names that the original's tools.py has.
__getattr__ = names_elsewhere(
    __name__,
    {
        "collect_env_info": "dassl.utils.env",
        "read_image": "dassl.utils.images",
        "set_random_seed": "dassl.utils.random_state",
    },
)


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, which replaces `path` on success.

    A reader sees the old file or the complete new one. Missing folders are created.
    """
    target, temporary = Path(path), temporary_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        try:
            yield temporary
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.filename not in (None, str(temporary)) or error.errno is None:
            raise
        # A failed write knows no path, and that of the temporary file is of no use to the reader.
        raise OSError(error.errno, error.strerror, str(target)) from error


def temporary_path(path: PathLike) -> Path:
    """Return a hidden path beside ``path`` for its new content, unique to this process."""
    target = Path(path)
    # The suffix is kept, since savers choose their format by it.
    return target.with_name(f".{target.stem}-{os.getpid()}.tmp{target.suffix}")


def mkdir_if_missing(dirname: PathLike) -> None:
    """Create a folder and its parents unless it exists."""
    os.makedirs(dirname, exist_ok=True)


def check_isfile(fpath: PathLike) -> bool:
    """Return whether `fpath` is a file; warn if not."""
    isfile = os.path.isfile(fpath)
    if not isfile:
        warnings.warn(f"no file at {str(fpath)!r}", stacklevel=2)
    return isfile


def read_json(fpath: PathLike) -> Any:
    """Load a JSON file; raise a UsageError if it is missing or not JSON."""
    from . import schema  # imports this module

    return schema.read_json(fpath)


def write_json(obj: Any, fpath: PathLike) -> None:
    """Write `obj` as indented JSON, atomically."""
    with atomic_path(fpath) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(obj, file, indent=4, separators=(",", ": "))


def write_text(text: str, fpath: PathLike) -> None:
    """Write a text file, atomically."""
    with atomic_path(fpath) as temporary:
        temporary.write_text(text, encoding="utf-8")


def download_url(url: str, dst: PathLike) -> None:
    """Download `url` to the file `dst` with a progress bar."""
    import torch  # slow to import, and nothing else here needs it

    print(f"Download {url} to {dst}")
    with atomic_path(dst) as temporary:
        torch.hub.download_url_to_file(url, str(temporary))


def listdir_nohidden(path: PathLike, sort: bool = False) -> list[str]:
    """Return the names in a folder that do not start with a dot."""
    items = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(items) if sort else items


def get_most_similar_str_to_a_from_b(a: str, b: Sequence[str]) -> str | None:
    """Return the string in `b` that is most similar to `a`; None if `b` is empty."""
    return max(b, key=lambda item: SequenceMatcher(None, a, item).ratio(), default=None)


def check_availability(requested: str, available: Sequence[str]) -> None:
    """Raise a UsageError with similar names if `requested` is not in `available`."""
    if requested not in available:
        raise UsageError(f"{requested!r} is unknown: {nearest(requested, available)}")


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal; a logger without `isatty`, such as Dassl's, is not."""
    return bool(getattr(stream, "isatty", bool)())


def tolist_if_not(x: Any) -> list[Any]:
    """Return `x` if it is a list, else `[x]`."""
    return x if isinstance(x, list) else [x]
