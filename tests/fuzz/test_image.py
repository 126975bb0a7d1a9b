"""Damaged images of every format end in a UsageError."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dassl.utils import UsageError, read_image
from dassl.utils.images import require_readable
from tests.fuzz.harness import fuzz

NOISE = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
PICTURES = {
    "rgb": Image.fromarray(NOISE),
    "gray": Image.fromarray(NOISE[:, :, 0]),
    "palette": Image.fromarray(NOISE).quantize(8),
    "alpha": Image.fromarray(np.dstack([NOISE, NOISE[:, :, 0]])),
    "deep": Image.fromarray(NOISE[:, :, 0].astype(np.uint16) * 257),
    "cmyk": Image.fromarray(NOISE).convert("CMYK"),
}
KINDS = {
    "PNG": ("rgb", "gray", "palette", "alpha", "deep"),
    "JPEG": ("rgb", "gray", "cmyk"),
    "BMP": ("rgb", "palette"),
    "GIF": ("palette", "rgb"),
    "TIFF": ("rgb", "deep", "cmyk"),
    "WEBP": ("rgb", "alpha"),
    "PPM": ("rgb", "gray"),
}
OPTIONS = {"GIF": {"save_all": True, "append_images": [PICTURES["palette"]]}}


def encoded(picture: str, kind: str) -> bytes:
    file = io.BytesIO()
    PICTURES[picture].save(file, kind, **OPTIONS.get(kind, {}))
    return file.getvalue()


def read_and_check(path: Path) -> None:
    read_image(path)
    require_readable([str(path)])


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, on damaged tags
@pytest.mark.parametrize("kind", KINDS)
def test_image(kind, tmp_path):
    seeds = [encoded(picture, kind) for picture in KINDS[kind]]
    if kind == "TIFF":  # compressed ones are decoded by another library
        file = io.BytesIO()
        PICTURES["rgb"].save(file, kind, compression="tiff_lzw")
        seeds.append(file.getvalue())
    print(kind, fuzz(read_and_check, seeds, tmp_path, f"a.{kind.lower()}", (UsageError,)))
