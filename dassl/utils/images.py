"""Read image files as RGB with 8 bits per channel, or say why one cannot be read."""

import errno
import io
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import numpy as np
from PIL import Image, UnidentifiedImageError

from .errors import UsageError
from .tools import PathLike

# Formats of photographs. Pillow would run programs for others, such as Ghostscript for PostScript.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF")
_SIXTEEN_BITS = ("PNG", "PPM")  # formats in which wider integers than 8 bits are of 16 bits
_DRAFT = (64, 64)


def read_image(path: PathLike) -> Image.Image:
    """Load an image as RGB, its first frame if it has several.

    16 bits are reduced to the higher 8. Integers of 32 bits must be in 0..255, and floating-point
    numbers in 0..1 (multiplied by 255) or 0..255, because such files do not state their range.

    Raises:
        UsageError: the file is missing, is not an image, is damaged, has other values than these,
            or has more than 178,956,970 pixels (Pillow's limit, checked before decoding).
        OSError: the machine cannot read it (permissions, input/output error).
    """
    with _opened(path) as image:
        return _to_rgb(image)


def require_readable(paths: Sequence[str], threads: int | None = None) -> None:
    """Raise the UsageError of `read_image` for the first image that cannot be read.

    JPEG files are decoded at a reduced size, which finds the same damage in less time.
    """
    with ThreadPoolExecutor(threads) as pool:
        errors = [error for error in pool.map(_find_error, paths) if error is not None]
    if not errors:
        return
    more = f"; in all {len(errors)} of {len(paths):,} images" if len(errors) > 1 else ""
    raise UsageError(f"{errors[0]}{more}") from errors[0]


def _find_error(path: str) -> UsageError | None:
    try:
        with _opened(path) as image:
            image.draft("RGB", _DRAFT)
            _to_rgb(image)
    except UsageError as error:
        return error
    return None


@contextmanager
def _opened(path: PathLike) -> Iterator[Image.Image]:
    """Yield an image whose pixels are not decoded yet; translate errors of decoding."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except FileNotFoundError:
        raise UsageError(
            f"no image at {str(path)!r}; check that the dataset was unpacked completely"
        ) from None
    except ValueError as error:  # a NUL in the path
        raise UsageError(f"{str(path)!r} is not the path of an image ({error})") from None
    if kind != stat.S_IFREG:
        what = "a folder" if kind == stat.S_IFDIR else "not a regular file"
        raise _unreadable(path, f"it is {what}")
    with _Reader(io.FileIO(path)) as file:
        try:
            with Image.open(file, formats=_formats()) as image:
                yield image
        except (UsageError, MemoryError):
            raise
        except OSError as error:
            # A decoder's own errors have no number, and one seeks to positions that do not exist.
            if error.errno not in (None, errno.EINVAL):
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise _unreadable(path, _reason(error)) from error
        except (
            Exception
        ) as error:  # of a decoder, for a damaged file: ValueError, struct.error, ...
            raise _unreadable(path, _reason(error)) from error


class _Reader(io.BufferedReader):
    """A file that allocates no more than it contains, whatever length a chunk of it claims."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(raw)
        self._length = os.fstat(raw.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return super().read()
        return super().read(min(size, max(0, self._length - self.tell())))


@cache
def _formats() -> list[str]:
    """Return the formats that this Pillow can read."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _to_rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format in _SIXTEEN_BITS):
        return _gray(np.asarray(image) >> 8)
    if mode not in ("I", "F"):
        return image.convert("RGB")
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if mode == "F" and low >= 0 and high <= 1:
        return _gray(np.rint(values * 255))
    if low >= 0 and high <= 255:  # false for NaN
        return _gray(np.rint(values))
    kind = "floating-point numbers" if mode == "F" else "32-bit integers"
    raise ValueError(f"it has {kind} from {low:g} to {high:g}, whose scale is unknown")


def _gray(values: np.ndarray) -> Image.Image:
    """Return values (H, W) in 0..255 as an image."""
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def _unreadable(path: PathLike, reason: str) -> UsageError:
    return UsageError(
        f"cannot read the image {str(path)!r} ({reason}): replace it by a JPEG or PNG file with "
        "8 bits per channel, or remove it from the dataset"
    )


def _reason(error: Exception) -> str:
    """Return the first line of a decoder's message, without the file that it read from."""
    if isinstance(error, Image.DecompressionBombError):
        return "it has more than 178,956,970 pixels, Pillow's limit"
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image, or damaged at its beginning"
    return line if len(line) <= 160 else f"{line[:157]}..."
