"""Turn paths, PIL images and tensors into batches."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Union

import torch
from PIL import Image
from torch import Tensor

from dassl.utils import read_image

from ..settings import SettingsError

__all__ = ["Images", "batches"]

One = Union[str, "os.PathLike[str]", Image.Image, Tensor]
Images = One | Sequence[One]


def batches(
    images: Images, transform: Callable[[Any], Tensor], size: int, side: int
) -> Iterator[Tensor]:
    """Yield tensors (B, 3, H, W) of at most ``size`` images.

    Args:
        images: one or several of: a path, a PIL image, a tensor (3, H, W); or a tensor
            (N, 3, H, W). Tensors are taken as they are, so they must have been transformed.
        transform: PIL image -> tensor.
        side: height and width that the backbone takes.
    """
    if isinstance(images, Tensor) and images.dim() == 4:
        _check(images, side)
        yield from images.split(size)
        return
    single = isinstance(images, (str, os.PathLike, Image.Image, Tensor))
    rows: list[Tensor] = []
    for image in [images] if single else images:  # type: ignore[union-attr]
        rows.append(_tensor(image, transform, side))
        if len(rows) == size:
            yield torch.stack(rows)
            rows = []
    if rows:
        yield torch.stack(rows)


def _tensor(image: Any, transform: Callable[[Any], Tensor], side: int) -> Tensor:
    if isinstance(image, (str, os.PathLike)):
        return transform(read_image(os.fspath(image)))
    if isinstance(image, Image.Image):
        return transform(image.convert("RGB"))
    if isinstance(image, Tensor) and image.dim() == 3:
        _check(image, side)
        return image
    shape = f" of shape {tuple(image.shape)}" if isinstance(image, Tensor) else ""
    raise SettingsError(
        f"got a {type(image).__name__}{shape} as an image: give a path, a PIL image, or a tensor "
        f"(3, {side}, {side}) made by the classifier's transform"
    )


def _check(image: Tensor, side: int) -> None:
    if image.shape[-3:] != (3, side, side) or not image.is_floating_point():
        raise SettingsError(
            f"got a tensor of shape {tuple(image.shape)} and type {image.dtype}, but the backbone "
            f"takes floating-point images (3, {side}, {side}): make it by the classifier's "
            "transform"
        )
