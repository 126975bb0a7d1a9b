"""Transforms that torchvision lacks."""

from __future__ import annotations

import random

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F


class Described:
    """Base class with a repr of the settings, which identifies stored features."""

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


class Random2DTranslation(Described):
    """With probability ``p``, crop (height, width) at random from the image enlarged by 1.125.

    Otherwise the image is resized to (height, width).
    """

    def __init__(
        self,
        height: int,
        width: int,
        p: float = 0.5,
        interpolation: InterpolationMode = InterpolationMode.BILINEAR,
    ) -> None:
        self.size = [height, width]
        self.p = p
        self.interpolation = interpolation

    def __call__(self, img: Image.Image) -> Image.Image:
        if random.random() >= self.p:
            return F.resize(img, self.size, self.interpolation)
        enlarged = [round(edge * 1.125) for edge in self.size]
        top, left = (
            random.randint(0, large - small)
            for large, small in zip(enlarged, self.size, strict=True)
        )
        return F.crop(F.resize(img, enlarged, self.interpolation), top, left, *self.size)


class InstanceNormalization(Described):
    """Give every channel of a (C, H, W) tensor zero mean and unit standard deviation."""

    def __init__(self, eps: float = 1e-8) -> None:
        self.eps = eps

    def __call__(self, img: Tensor) -> Tensor:
        std, mean = torch.std_mean(img, dim=(1, 2), keepdim=True)
        return (img - mean) / (std + self.eps)


class Cutout(Described):
    """Zero ``n_holes`` squares of ``length`` pixels, centered anywhere in a (C, H, W) tensor.

    DeVries and Taylor, Improved Regularization of CNNs with Cutout, arXiv:1708.04552.
    """

    def __init__(self, n_holes: int = 1, length: int = 16) -> None:
        self.n_holes = n_holes
        self.length = length

    def __call__(self, img: Tensor) -> Tensor:
        img = img.clone()
        half = self.length // 2
        for _ in range(self.n_holes):
            row, column = (int(torch.randint(edge, ())) for edge in img.shape[1:])
            img[:, max(0, row - half) : row + half, max(0, column - half) : column + half] = 0
        return img


class GaussianNoise(Described):
    """With probability ``p``, add noise from N(mean, std^2) to a tensor."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5) -> None:
        self.mean = mean
        self.std = std
        self.p = p

    def __call__(self, img: Tensor) -> Tensor:
        if random.random() >= self.p:
            return img
        return img + torch.randn_like(img) * self.std + self.mean
