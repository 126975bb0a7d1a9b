"""Transforms that torchvision lacks."""

import math
import random
from collections.abc import Callable, Mapping

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


Operation = Callable[[Image.Image, float], Image.Image]


def _shear(img: Image.Image, x: float = 0.0, y: float = 0.0) -> Image.Image:
    """Shear by ``x`` and ``y`` pixels per pixel."""
    degrees = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    return F.affine(img, angle=0.0, translate=[0, 0], scale=1.0, shear=degrees)


def _translate(img: Image.Image, x: float = 0.0, y: float = 0.0) -> Image.Image:
    """Move by the fractions ``x`` of the width and ``y`` of the height."""
    pixels = [round(x * img.width), round(y * img.height)]
    return F.affine(img, angle=0.0, translate=pixels, scale=1.0, shear=[0.0, 0.0])


OPERATIONS: dict[str, Operation] = {
    "autocontrast": lambda img, _: F.autocontrast(img),
    "brightness": F.adjust_brightness,
    "color": F.adjust_saturation,
    "contrast": F.adjust_contrast,
    "equalize": lambda img, _: F.equalize(img),
    "identity": lambda img, _: img,
    "invert": lambda img, _: F.invert(img),
    "posterize": lambda img, value: F.posterize(img, int(value)),
    "rotate": F.rotate,
    "sharpness": F.adjust_sharpness,
    "shear_x": lambda img, value: _shear(img, x=value),
    "shear_y": lambda img, value: _shear(img, y=value),
    "solarize": F.solarize,
    "translate_x": lambda img, value: _translate(img, x=value),
    "translate_y": lambda img, value: _translate(img, y=value),
}

# Strengths are sampled uniformly from these ranges.
_COMMON = {
    "autocontrast": (0.0, 1.0),
    "equalize": (0.0, 1.0),
    "identity": (0.0, 1.0),
    "posterize": (4.0, 8.0),
    "rotate": (-30.0, 30.0),
    "shear_x": (-0.3, 0.3),
    "shear_y": (-0.3, 0.3),
    "solarize": (0.0, 256.0),
    "translate_x": (-0.3, 0.3),
    "translate_y": (-0.3, 0.3),
}
_ENHANCEMENTS = ("brightness", "color", "contrast", "sharpness")
FIXMATCH_RANGES = {**_COMMON, **dict.fromkeys(_ENHANCEMENTS, (0.05, 0.95))}
RANDAUGMENT2_RANGES = {**_COMMON, **dict.fromkeys(_ENHANCEMENTS, (0.1, 1.9)), "invert": (0.0, 1.0)}


class RandomOperations(Described):
    """Apply ``n`` operations sampled from ``ranges``, each with probability ``p``."""

    def __init__(self, n: int, ranges: Mapping[str, tuple[float, float]], p: float = 1.0) -> None:
        self.n = n
        self.ranges = ranges
        self.p = p

    def __call__(self, img: Image.Image) -> Image.Image:
        for name in random.choices(list(self.ranges), k=self.n):
            if random.random() < self.p:
                img = OPERATIONS[name](img, random.uniform(*self.ranges[name]))
        return img


class RandAugmentFixMatch(RandomOperations):
    """The strong augmentation of FixMatch (Sohn et al., arXiv:2001.07685, appendix D)."""

    def __init__(self, n: int = 2) -> None:
        super().__init__(n, FIXMATCH_RANGES)


class RandAugment2(RandomOperations):
    """RandAugment (Cubuk et al., arXiv:1909.13719) with a random strength for each operation.

    torchvision's own, the transform ``randaugment``, has one strength for all operations.
    """

    def __init__(self, n: int = 2, p: float = 0.6) -> None:
        super().__init__(n, RANDAUGMENT2_RANGES, p)
