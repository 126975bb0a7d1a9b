"""The transforms of INPUT.TRANSFORMS, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torchvision.transforms import (
    AutoAugment,
    AutoAugmentPolicy,
    CenterCrop,
    ColorJitter,
    Compose,
    GaussianBlur,
    InterpolationMode,
    Normalize,
    RandAugment,
    RandomApply,
    RandomCrop,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
)
from yacs.config import CfgNode

from dassl.utils import UsageError, nearest

from .extras import Cutout, GaussianNoise, InstanceNormalization, Random2DTranslation
from .randaugment import RandAugment2, RandAugmentFixMatch

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}

# A step is what the log says of it, and the transform.
Step = tuple[str, Callable[[Any], Any]]


def interpolation_mode(cfg: CfgNode) -> InterpolationMode:
    """The mode named by cfg.INPUT.INTERPOLATION; a UsageError if there is none."""
    name = cfg.INPUT.INTERPOLATION
    if name not in INTERPOLATION_MODES:
        raise UsageError(f"INPUT.INTERPOLATION is {name!r}: {nearest(name, INTERPOLATION_MODES)}")
    return INTERPOLATION_MODES[name]


def _random_resized_crop(cfg: CfgNode) -> Step:
    size, scale = cfg.INPUT.SIZE, cfg.INPUT.RRCROP_SCALE
    crop = RandomResizedCrop(size, scale=scale, interpolation=interpolation_mode(cfg))
    return f"random resized crop (size={size}, scale={scale})", crop


def _random_crop(cfg: CfgNode) -> Step:
    padding = cfg.INPUT.CROP_PADDING
    return f"random crop (padding={padding})", RandomCrop(cfg.INPUT.SIZE, padding=padding)


def _randaugment(cfg: CfgNode) -> Step:
    n, m = cfg.INPUT.RANDAUGMENT_N, cfg.INPUT.RANDAUGMENT_M
    return f"randaugment (n={n}, m={m})", RandAugment(n, m)


def _colorjitter(cfg: CfgNode) -> Step:
    strengths = {
        "brightness": cfg.INPUT.COLORJITTER_B,
        "contrast": cfg.INPUT.COLORJITTER_C,
        "saturation": cfg.INPUT.COLORJITTER_S,
        "hue": cfg.INPUT.COLORJITTER_H,
    }
    said = ", ".join(f"{name}={value}" for name, value in strengths.items())
    return f"color jitter ({said})", ColorJitter(**strengths)


def _gaussian_blur(cfg: CfgNode) -> Step:
    kernel, p = cfg.INPUT.GB_K, cfg.INPUT.GB_P
    return f"gaussian blur (kernel={kernel}, p={p})", RandomApply([GaussianBlur(kernel)], p=p)


def _cutout(cfg: CfgNode) -> Step:
    n, length = cfg.INPUT.CUTOUT_N, cfg.INPUT.CUTOUT_LEN
    return f"cutout (n_holes={n}, length={length})", Cutout(n, length)


def _normalize(cfg: CfgNode) -> Step:
    mean, std = cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD
    return f"normalization (mean={mean}, std={std})", Normalize(mean=mean, std=std)


def _gaussian_noise(cfg: CfgNode) -> Step:
    mean, std = cfg.INPUT.GN_MEAN, cfg.INPUT.GN_STD
    return f"gaussian noise (mean={mean}, std={std})", GaussianNoise(mean, std)


# Applied in this order, whatever the order in INPUT.TRANSFORMS: first to the image ...
IMAGE_STEPS: dict[str, Callable[[CfgNode], Step]] = {
    "random_translation": lambda cfg: (
        "random translation",
        Random2DTranslation(*cfg.INPUT.SIZE),
    ),
    "random_crop": _random_crop,
    "random_resized_crop": _random_resized_crop,
    "random_flip": lambda cfg: ("random flip", RandomHorizontalFlip()),
    "imagenet_policy": lambda cfg: ("imagenet policy", AutoAugment(AutoAugmentPolicy.IMAGENET)),
    "cifar10_policy": lambda cfg: ("cifar10 policy", AutoAugment(AutoAugmentPolicy.CIFAR10)),
    "svhn_policy": lambda cfg: ("svhn policy", AutoAugment(AutoAugmentPolicy.SVHN)),
    "randaugment": _randaugment,
    "randaugment_fixmatch": lambda cfg: (
        f"randaugment_fixmatch (n={cfg.INPUT.RANDAUGMENT_N})",
        RandAugmentFixMatch(cfg.INPUT.RANDAUGMENT_N),
    ),
    "randaugment2": lambda cfg: (
        f"randaugment2 (n={cfg.INPUT.RANDAUGMENT_N})",
        RandAugment2(cfg.INPUT.RANDAUGMENT_N),
    ),
    "colorjitter": _colorjitter,
    "randomgrayscale": lambda cfg: (
        f"random gray scale (p={cfg.INPUT.RGS_P})",
        RandomGrayscale(p=cfg.INPUT.RGS_P),
    ),
    "gaussian_blur": _gaussian_blur,
}
# ... then to the tensor.
TENSOR_STEPS: dict[str, Callable[[CfgNode], Step]] = {
    "cutout": _cutout,
    "normalize": _normalize,
    "gaussian_noise": _gaussian_noise,
    "instance_norm": lambda cfg: ("instance normalization", InstanceNormalization()),
}
# Steps that draw nothing: with these alone an image looks the same whenever it is read.
FIXED_STEPS = (Resize, CenterCrop, ToTensor, Normalize, InstanceNormalization)
AVAI_CHOICES = [*IMAGE_STEPS, *TENSOR_STEPS, "center_crop"]


def build_transform(
    cfg: CfgNode, is_train: bool = True, choices: Sequence[str] | None = None
) -> Compose | None:
    """The transform of training or test images (PIL image -> tensor (3, H, W)), said in the log.

    Args:
        cfg: the config; the node INPUT is read.
        is_train: with augmentations, or the fixed resize and center crop of testing.
        choices: names that replace cfg.INPUT.TRANSFORMS.

    Returns:
        the transform, or None if INPUT.NO_TRANSFORM.

    Raises:
        UsageError: an unknown transform or interpolation.
    """
    if cfg.INPUT.NO_TRANSFORM:
        print("Note: no transform is applied!")
        return None
    choices = cfg.INPUT.TRANSFORMS if choices is None else choices
    for choice in choices:
        if choice not in AVAI_CHOICES:
            raise UsageError(f"unknown transform {choice!r}: {nearest(choice, AVAI_CHOICES)}")

    steps = _train_steps(cfg, choices) if is_train else _test_steps(cfg, choices)
    print(f"Building transform_{'train' if is_train else 'test'}")
    for said, _ in steps:
        print(f"+ {said}")
    if is_train and "center_crop" in choices:
        print("  (center_crop is always part of testing, and no part of training)")
    return Compose([transform for _, transform in steps])


def is_random(transform: Any) -> bool:
    """Whether a transform may draw random numbers: any step that is not known to draw none."""
    if isinstance(transform, Compose | list | tuple):
        steps = transform.transforms if isinstance(transform, Compose) else transform
        return any(is_random(step) for step in steps)
    return transform is not None and not isinstance(transform, FIXED_STEPS)


TO_TENSOR = "to torch tensor of range [0, 1]"


def _train_steps(cfg: CfgNode, choices: Sequence[str]) -> list[Step]:
    height, width = cfg.INPUT.SIZE
    steps: list[Step] = []
    # The two crops bring the image to its size themselves.
    if "random_crop" not in choices and "random_resized_crop" not in choices:
        resize = Resize(cfg.INPUT.SIZE, interpolation=interpolation_mode(cfg))
        steps.append((f"resize to {height}x{width}", resize))
    steps += [step(cfg) for name, step in IMAGE_STEPS.items() if name in choices]
    steps.append((TO_TENSOR, ToTensor()))
    steps += [step(cfg) for name, step in TENSOR_STEPS.items() if name in choices]
    return steps


def _test_steps(cfg: CfgNode, choices: Sequence[str]) -> list[Step]:
    height, width = cfg.INPUT.SIZE
    larger = max(height, width)
    steps: list[Step] = [
        (
            f"resize the smaller edge to {larger}",
            Resize(larger, interpolation=interpolation_mode(cfg)),
        ),
        (f"{height}x{width} center crop", CenterCrop(cfg.INPUT.SIZE)),
        (TO_TENSOR, ToTensor()),
    ]
    fixed = ("normalize", "instance_norm")
    return steps + [TENSOR_STEPS[name](cfg) for name in fixed if name in choices]
