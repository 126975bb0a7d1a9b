"""Small images as data: URIs, made of what the model sees: the transformed image."""

import base64
import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from dassl.utils import read_image
from scripts.probing.run import Run

__all__ = [
    "Box",
    "data_uri",
    "outlined",
    "overlay",
    "patch_box",
    "pixels",
    "tensor_of",
    "thumbnail",
]

SIDE = 96  # pixels of a thumbnail, at most
SCALE = 3  # of images with outlines, so that the lines stay thin
QUALITY = 82  # of JPEG
OUTLINE = (255, 176, 0)  # amber, which differs from most images also for the color-blind

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels, as PIL has them


def tensor_of(run: Run, path: str) -> Tensor:
    """Return an image file as the model sees it, (3, H, W)."""
    return run.classifier.transform(read_image(path))


def pixels(run: Run, image: Tensor) -> Image.Image:
    """Return a transformed image (3, H, W) as a picture, without its normalization."""
    settings = run.classifier.input_settings
    if "normalize" in settings.TRANSFORMS:
        mean, std = (
            torch.tensor(v)[:, None, None] for v in (settings.PIXEL_MEAN, settings.PIXEL_STD)
        )
        image = image * std + mean
    array = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(array))


def data_uri(picture: Image.Image, side: int = SIDE) -> str:
    """Return a JPEG of at most ``side`` pixels as a data: URI."""
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, "JPEG", quality=QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def thumbnail(run: Run, image: Tensor) -> str:
    """Return a transformed image (3, H, W) as a data: URI."""
    return data_uri(pixels(run, image))


def patch_box(index: int, patches: int, side: int) -> Box:
    """Return the pixels of a patch in an image of ``side`` pixels with ``patches`` patches.

    Patches are counted row by row, as in `trainers.encode.ImageTokens`.
    """
    grid = round(patches**0.5)
    size = side // grid
    row, column = divmod(index, grid)
    return column * size, row * size, (column + 1) * size, (row + 1) * size


def outlined(picture: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """Return an enlarged copy with an outline around each box."""
    scale = SCALE if picture.width <= SIDE else 1
    copy = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(copy)
    for box in boxes:
        left, top, right, bottom = (value * scale for value in box)
        draw.rectangle((left - 1, top - 1, right, bottom), outline=(0, 0, 0), width=4)
        draw.rectangle((left, top, right - 1, bottom - 1), outline=OUTLINE, width=2)
    return copy


def overlay(picture: Image.Image, heat: np.ndarray) -> Image.Image:
    """Return the picture darkened where ``heat`` (h, w), of any range, is low."""
    top = float(heat.max()) or 1.0
    mask = Image.fromarray((255 * heat / top).astype(np.uint8))
    mask = mask.resize(picture.size, Image.Resampling.NEAREST)
    dark = Image.blend(picture.convert("RGB"), Image.new("RGB", picture.size), 0.8)
    return Image.composite(picture.convert("RGB"), dark, mask)
