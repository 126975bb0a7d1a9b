"""Images of every kind are read as 8-bit RGB, and damaged ones are refused by name."""

from __future__ import annotations

import errno
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from dassl.utils import UsageError, images, read_image
from dassl.utils.images import require_readable

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def pixels(path):
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_gray_becomes_rgb(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "gray.png")
    assert np.array_equal(pixels(tmp_path / "gray.png"), np.stack([RAMP] * 3, axis=2))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_are_scaled(name, tmp_path):
    deep = RAMP.astype(np.uint16) * 257
    if name.endswith("pgm"):
        (tmp_path / name).write_bytes(b"P5 16 16 65535\n" + deep.astype(">u2").tobytes())
    else:
        Image.fromarray(deep).save(tmp_path / name)
    assert np.array_equal(pixels(tmp_path / name)[:, :, 0], RAMP)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_wide_numbers_within_8_bits_are_kept(kind, tmp_path):
    Image.fromarray(RAMP.astype(kind)).save(tmp_path / "a.tif")
    assert np.array_equal(pixels(tmp_path / "a.tif")[:, :, 0], RAMP)


def test_fractions_are_scaled(tmp_path):
    Image.fromarray((RAMP / 255).astype(np.float32)).save(tmp_path / "a.tif")
    assert np.array_equal(pixels(tmp_path / "a.tif")[:, :, 0], RAMP)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (RAMP.astype(np.int32) * 257, "32-bit integers from 0 to 65535"),
        (RAMP.astype(np.int32) - 1, "32-bit integers from -1 to 254"),
        (RAMP.astype(np.float32) * 4, "floating-point numbers from 0 to 1020"),
        (RAMP / np.float32(-255), "floating-point numbers from -1 to -?0"),
        (np.full((2, 2), np.nan, np.float32), "floating-point numbers from nan to nan"),
    ],
)
def test_numbers_of_unknown_scale_are_refused(values, words, tmp_path):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(UsageError, match=rf"a\.tif' \(it has {words}, .*8 bits per channel"):
        read_image(tmp_path / "a.tif")


def test_palette_transparency_and_cmyk(tmp_path):
    red = Image.new("RGB", (4, 4), (200, 10, 20))
    red.quantize(4).save(tmp_path / "a.png", transparency=0)
    assert pixels(tmp_path / "a.png")[0, 0].tolist() == [200, 10, 20]
    Image.new("LA", (4, 4), (7, 0)).save(tmp_path / "b.png")
    assert pixels(tmp_path / "b.png")[0, 0].tolist() == [7, 7, 7]
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "c.tif")
    assert pixels(tmp_path / "c.tif")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.webp", "a.png"])
def test_first_frame_is_taken(name, tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    options = {"lossless": True} if name == "a.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    assert pixels(tmp_path / name)[0, 0].tolist() == [255, 0, 0]


def refused(path):
    """Return the sentence with which a file is refused, by both functions."""
    with pytest.raises(UsageError) as error:
        read_image(path)
    text = str(error.value)
    assert repr(str(path)) in text
    assert "\n" not in text
    with pytest.raises(UsageError) as checked:
        require_readable([str(path)])
    assert repr(str(path)) in str(checked.value)
    return text


def test_missing_and_special_files(tmp_path):
    assert "no image at" in refused(tmp_path / "missing.png")
    (tmp_path / "folder.jpg").mkdir()
    assert "it is a folder" in refused(tmp_path / "folder.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "it is not a regular file" in refused(tmp_path / "pipe.jpg")
    assert "is not the path of an image" in refused("a\0b.jpg")


@pytest.mark.parametrize("content", [b"", b"not an image", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_other_files(content, tmp_path):
    (tmp_path / "a.jpg").write_bytes(content)
    assert "it is not an image, or damaged at its beginning" in refused(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tif", "webp", "ppm"])
def test_truncated_files(suffix, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "cannot read the image" in refused(path)


def png(width, height):
    """Return the bytes of a 1-bit gray PNG file that claims this size."""

    def chunk(name, content):
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_a_billion_pixels_are_refused_from_the_header(tmp_path):
    (tmp_path / "a.png").write_bytes(png(40_000, 25_000))
    assert "more than 178,956,970 pixels" in refused(tmp_path / "a.png")


def test_errors_of_decoders_other_than_oserror(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 2**21, zip=True)  # ValueError
    Image.new("L", (8, 8)).save(tmp_path / "text.png", pnginfo=info)
    (tmp_path / "header.ppm").write_bytes(b"P6\n8 8\n2\xa355\n" + bytes(192))  # ValueError
    Image.new("L", (8, 8)).save(tmp_path / "profile.png", icc_profile=bytes(2**21))
    for name in ("text.png", "header.ppm", "profile.png"):
        assert "cannot read the image" in refused(tmp_path / name)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_errors_of_the_machine_pass_on_with_the_path(number, tmp_path, monkeypatch):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(images.Image, "open", fail)
    with pytest.raises(OSError, match=os.strerror(number)) as error:
        read_image(tmp_path / "a.png")
    assert (error.value.errno, error.value.filename) == (number, str(tmp_path / "a.png"))


def test_lack_of_memory_passes_on(tmp_path, monkeypatch):
    def fail(*args):
        raise MemoryError

    monkeypatch.setattr(images, "_to_rgb", fail)
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(MemoryError):
        read_image(tmp_path / "a.png")


def test_draft_finds_a_cut_jpeg(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(noise).save(path)
    require_readable([str(path)])
    path.write_bytes(path.read_bytes()[:-2000])
    assert "truncated" in refused(path)


def test_chunk_that_claims_more_bytes_than_the_file_has(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    content = bytearray(path.read_bytes())
    start = content.index(b"IDAT")
    content[start - 4 : start] = (2**31 - 1).to_bytes(4, "big")
    path.write_bytes(content)
    tracemalloc.start()
    try:
        read_image(path)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()
