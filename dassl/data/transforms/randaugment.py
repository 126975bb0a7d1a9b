"""Random chains of image operations with random strengths.

Cubuk et al., RandAugment, arXiv:1909.13719; Sohn et al., FixMatch, arXiv:2001.07685 (appendix D
lists the ranges of :class:`RandAugmentFixMatch`). torchvision's own RandAugment, used for the
transform ``randaugment``, has one strength for all operations.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

from PIL import Image
from torchvision.transforms import functional as F

from .extras import Described

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
RANDAUGMENT2_RANGES = {
    **_COMMON,
    **dict.fromkeys(_ENHANCEMENTS, (0.1, 1.9)),
    "invert": (0.0, 1.0),
}


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
    """The strong augmentation of FixMatch."""

    def __init__(self, n: int = 2) -> None:
        super().__init__(n, FIXMATCH_RANGES)


class RandAugment2(RandomOperations):
    """RandAugment with random strengths; each operation is skipped with probability 1 - p."""

    def __init__(self, n: int = 2, p: float = 0.6) -> None:
        super().__init__(n, RANDAUGMENT2_RANGES, p)
