"""Read JSON files with a schema: msgspec structs and constraints (https://jcristharif.com/msgspec).

A schema is a `Record` subclass with typed fields. Unknown fields are ignored, so that a file of a
later version can be read, and fields with defaults may be missing.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from .errors import UsageError
from .tools import PathLike

T = TypeVar("T")

Count = Annotated[int, Meta(ge=0, lt=2**53)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Record = msgspec.Struct
MAX_BYTES = 256 * 2**20  # the largest JSON file read here is ImageNet-sized: 100 MB


def read_checked(path: PathLike, kind: type[T], remedy: str, max_bytes: int = MAX_BYTES) -> T:
    """Return the content of a JSON file, checked against the schema ``kind``.

    Args:
        kind: any type that msgspec supports, usually a `Record` subclass.
        remedy: what the user can do about wrong content; the end of the error's sentence.
        max_bytes: a larger file is refused without reading it.

    Raises:
        UsageError: the file is missing, too large, not JSON, or does not fit the schema.
    """
    return _read(path, lambda text: msgspec.json.decode(text, type=kind), remedy, max_bytes)


def read_json(path: PathLike) -> Any:
    """Load a JSON file without a schema; raise a UsageError if it is missing or not JSON."""
    return _read(path, msgspec.json.decode, "check the file", MAX_BYTES)


def check(content: Any, kind: type[T], what: str, remedy: str) -> T:
    """Return plain containers, such as those of a YAML file, as the schema ``kind``.

    Raises:
        UsageError: the content does not fit; ``what`` names it.
    """
    try:
        return msgspec.convert(content, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UsageError(f"{what} is not valid ({_reason(error)}): {remedy}") from error


def _read(path: PathLike, decode: Callable[[bytes], T], remedy: str, max_bytes: int) -> T:
    file = Path(path)
    if file.is_dir():
        raise UsageError(f"{str(path)!r} is a folder, but should be a JSON file: remove it")
    try:
        size = file.stat().st_size
        if size > max_bytes:
            raise UsageError(f"{str(path)!r} has {size:,} bytes, more than {max_bytes:,}: {remedy}")
        return decode(file.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"no JSON file at {str(path)!r}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UsageError(f"{str(path)!r} is not valid ({_reason(error)}): {remedy}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"nested more than {sys.getrecursionlimit()} times"
    return str(error).replace("`", "")
