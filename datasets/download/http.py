"""Resumable downloads over HTTP into a ``.part`` file."""

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from .errors import SourceError

TIMEOUT = 60  # seconds without a byte
ATTEMPTS = 4  # in a row that bring no byte
WAIT = 2.0  # seconds before the second attempt; doubled each time
_CHUNK = 1 << 18
_NETWORK_ERRORS = (OSError, http.client.HTTPException)  # URLError and timeouts are OSErrors


def download(
    url: str,
    part: Path,
    headers: Mapping[str, str] | None = None,
    size: int | None = None,
    make_room: Callable[[int], None] = lambda size: None,
) -> None:
    """Download ``url`` to ``part``, continuing behind the bytes that are there.

    Broken connections are taken up again. A server that ignores the Range header sends the file
    from the start, which replaces the bytes that are there.

    Args:
        headers: sent to the first host only, not to those that it redirects to.
        size: of the file in bytes, if known.
        make_room: called with the number of bytes still to come; may raise.

    Raises:
        SourceError: the server cannot be reached, refuses, or sends another number of bytes.
        OSError: ``part`` cannot be written.
    """
    failures = 0
    while True:
        before = _size(part)
        try:
            complete = _attempt(url, part, headers or {}, size, make_room)
        except _BrokenError as error:
            failures = 1 if _size(part) > before else failures + 1
            if failures >= ATTEMPTS:
                raise SourceError(f"{error} ({failures} attempts)") from error
            done = _size(part)
            print(f"{url}: {error}: {f'continuing at {done:,} bytes' if done else 'trying again'}")
            time.sleep(WAIT * 2 ** (failures - 1))
            continue
        if complete:
            return


class _BrokenError(Exception):
    """The connection failed in a way that another attempt may mend."""


def _attempt(
    url: str,
    part: Path,
    headers: Mapping[str, str],
    size: int | None,
    make_room: Callable[[int], None],
) -> bool:
    """Download the rest of the file; return False if it must be downloaded from the start."""
    start = _size(part)
    if start and start == size:
        return True
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:  # there is nothing behind the bytes of the part file
            if _total(error.headers.get("Content-Range")) == start:
                return True
            part.unlink()
            return False
        reason = f"the server answers {error.code} {error.reason}"
        if error.code == 429 or error.code >= 500:
            raise _BrokenError(reason) from error
        raise SourceError(reason) from error
    except _NETWORK_ERRORS as error:
        raise _BrokenError(f"no connection ({_reason(error)})") from error
    except ValueError as error:  # an address that urllib cannot use, such as http://host:port
        raise SourceError(f"the address cannot be used ({error})") from error
    with response:
        return _receive(response, url, part, start, size, make_room)


def _receive(
    response: http.client.HTTPResponse,
    url: str,
    part: Path,
    start: int,
    size: int | None,
    make_room: Callable[[int], None],
) -> bool:
    content_range = response.headers.get("Content-Range", "")
    resumed = response.status == 206 and content_range.startswith(f"bytes {start}-")
    if response.status == 206 and not resumed:
        part.unlink(missing_ok=True)
        return False
    if start and not resumed:
        print(f"{url}: the server cannot continue a download: starting again")
        start = 0
    length = response.headers.get("Content-Length", "")
    total = _total(content_range) if resumed else int(length) if length.isdecimal() else None
    if size is not None and total not in (None, size):
        raise SourceError(f"the server has a file of {total:,} bytes instead of {size:,}")
    total = total if total is not None else size
    if total is not None:
        make_room(total - start)
    done = start
    with (
        naming(part),
        open(part, "ab" if resumed else "wb") as file,
        tqdm(
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            desc=part.stem,
            disable=None,  # a bar on terminals only
        ) as bar,
    ):
        while True:
            try:
                chunk = response.read(_CHUNK)
            except _NETWORK_ERRORS as error:
                raise _BrokenError(f"the connection broke ({_reason(error)})") from error
            if not chunk:
                break
            file.write(chunk)
            done += len(chunk)
            bar.update(len(chunk))
            if total is not None and done > total:
                raise SourceError(f"the server sends more than {total:,} bytes")
    if total is not None and done < total:
        raise _BrokenError(f"the connection broke after {done:,} of {total:,} bytes")
    return True


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add a path to an OSError without one, such as that of a failed write."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _total(content_range: str | None) -> int | None:
    match = re.search(r"/(\d+)$", content_range or "")
    return int(match[1]) if match else None


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", error)
    return str(reason) or type(error).__name__
