"""The transforms of INPUT.TRANSFORMS by name."""

from collections.abc import Callable, Sequence
from typing import Any

from torchvision import transforms as T
from torchvision.transforms import Compose, InterpolationMode
from yacs.config import CfgNode

from dassl.config import complete
from dassl.utils import UsageError, nearest

from .extras import (
    Cutout,
    GaussianNoise,
    InstanceNormalization,
    RandAugment2,
    RandAugmentFixMatch,
    Random2DTranslation,
)

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}

# A description for the log, and the transform.
Step = tuple[str, Callable[[Any], Any]]


def interpolation_mode(cfg: CfgNode) -> InterpolationMode:
    """Return the mode named by cfg.INPUT.INTERPOLATION; raise a UsageError if there is none."""
    name = cfg.INPUT.INTERPOLATION
    if name not in INTERPOLATION_MODES:
        raise UsageError(f"INPUT.INTERPOLATION is {name!r}: {nearest(name, INTERPOLATION_MODES)}")
    return INTERPOLATION_MODES[name]


def _color_jitter(i: CfgNode) -> Step:
    strengths = {
        "brightness": i.COLORJITTER_B,
        "contrast": i.COLORJITTER_C,
        "saturation": i.COLORJITTER_S,
        "hue": i.COLORJITTER_H,
    }
    settings = ", ".join(f"{name}={value}" for name, value in strengths.items())
    return f"color jitter ({settings})", T.ColorJitter(**strengths)


# cfg.INPUT -> step. They are applied in this order: first to the image, ...
IMAGE_STEPS: dict[str, Callable[[CfgNode], Step]] = {
    "random_translation": lambda i: ("random translation", Random2DTranslation(*i.SIZE)),
    "random_crop": lambda i: (
        f"random crop (padding={i.CROP_PADDING})",
        T.RandomCrop(i.SIZE, padding=i.CROP_PADDING),
    ),
    "random_resized_crop": lambda i: (
        f"random resized crop (size={i.SIZE}, scale={i.RRCROP_SCALE})",
        T.RandomResizedCrop(
            i.SIZE, scale=i.RRCROP_SCALE, interpolation=INTERPOLATION_MODES[i.INTERPOLATION]
        ),
    ),
    "random_flip": lambda i: ("random flip", T.RandomHorizontalFlip()),
    "imagenet_policy": lambda i: ("imagenet policy", T.AutoAugment(T.AutoAugmentPolicy.IMAGENET)),
    "cifar10_policy": lambda i: ("cifar10 policy", T.AutoAugment(T.AutoAugmentPolicy.CIFAR10)),
    "svhn_policy": lambda i: ("svhn policy", T.AutoAugment(T.AutoAugmentPolicy.SVHN)),
    "randaugment": lambda i: (
        f"randaugment (n={i.RANDAUGMENT_N}, m={i.RANDAUGMENT_M})",
        T.RandAugment(i.RANDAUGMENT_N, i.RANDAUGMENT_M),
    ),
    "randaugment_fixmatch": lambda i: (
        f"randaugment_fixmatch (n={i.RANDAUGMENT_N})",
        RandAugmentFixMatch(i.RANDAUGMENT_N),
    ),
    "randaugment2": lambda i: (
        f"randaugment2 (n={i.RANDAUGMENT_N})",
        RandAugment2(i.RANDAUGMENT_N),
    ),
    "colorjitter": _color_jitter,
    "randomgrayscale": lambda i: (f"random gray scale (p={i.RGS_P})", T.RandomGrayscale(p=i.RGS_P)),
    "gaussian_blur": lambda i: (
        f"gaussian blur (kernel={i.GB_K}, p={i.GB_P})",
        T.RandomApply([T.GaussianBlur(i.GB_K)], p=i.GB_P),
    ),
}
# ... then to the tensor.
TENSOR_STEPS: dict[str, Callable[[CfgNode], Step]] = {
    "cutout": lambda i: (
        f"cutout (n_holes={i.CUTOUT_N}, length={i.CUTOUT_LEN})",
        Cutout(i.CUTOUT_N, i.CUTOUT_LEN),
    ),
    "normalize": lambda i: (
        f"normalization (mean={i.PIXEL_MEAN}, std={i.PIXEL_STD})",
        T.Normalize(mean=i.PIXEL_MEAN, std=i.PIXEL_STD),
    ),
    "gaussian_noise": lambda i: (
        f"gaussian noise (mean={i.GN_MEAN}, std={i.GN_STD})",
        GaussianNoise(i.GN_MEAN, i.GN_STD),
    ),
    "instance_norm": lambda i: ("instance normalization", InstanceNormalization()),
}
# Deterministic transforms.
FIXED_STEPS = (T.Resize, T.CenterCrop, T.ToTensor, T.Normalize, InstanceNormalization)
AVAI_CHOICES = [*IMAGE_STEPS, *TENSOR_STEPS, "center_crop"]


def build_transform(
    cfg: CfgNode, is_train: bool = True, choices: Sequence[str] | None = None
) -> Compose | None:
    """Build the transform (PIL image -> tensor (3, H, W)) and print its steps.

    In training it uses the augmentations, otherwise it resizes and crops the center. `choices` are
    names used instead of cfg.INPUT.TRANSFORMS.

    Returns:
        The transform, or None with INPUT.NO_TRANSFORM.

    Raises:
        UsageError: an unknown transform or interpolation.
    """
    cfg = complete(cfg)
    if cfg.INPUT.NO_TRANSFORM:
        print("Note: no transform is applied!")
        return None
    choices = cfg.INPUT.TRANSFORMS if choices is None else choices
    for choice in choices:
        if choice not in AVAI_CHOICES:
            raise UsageError(f"unknown transform {choice!r}: {nearest(choice, AVAI_CHOICES)}")

    steps = _train_steps(cfg, choices) if is_train else _test_steps(cfg, choices)
    print(f"Building transform_{'train' if is_train else 'test'}")
    for description, _ in steps:
        print(f"+ {description}")
    if is_train and "center_crop" in choices:
        print("  (center_crop is always used in testing, and never in training)")
    return Compose([transform for _, transform in steps])


def is_random(transform: Any) -> bool:
    """Return whether a transform may be random: any step that is not known to be deterministic."""
    if isinstance(transform, Compose | list | tuple):
        steps = transform.transforms if isinstance(transform, Compose) else transform
        return any(is_random(step) for step in steps)
    return transform is not None and not isinstance(transform, FIXED_STEPS)


TO_TENSOR: Step = ("to torch tensor of range [0, 1]", T.ToTensor())


def _train_steps(cfg: CfgNode, choices: Sequence[str]) -> list[Step]:
    height, width = cfg.INPUT.SIZE
    mode = interpolation_mode(cfg)
    steps: list[Step] = []
    # These two crops resize the image themselves.
    if "random_crop" not in choices and "random_resized_crop" not in choices:
        steps.append((f"resize to {height}x{width}", T.Resize(cfg.INPUT.SIZE, interpolation=mode)))
    steps += [step(cfg.INPUT) for name, step in IMAGE_STEPS.items() if name in choices]
    steps.append(TO_TENSOR)
    return steps + [step(cfg.INPUT) for name, step in TENSOR_STEPS.items() if name in choices]


def _test_steps(cfg: CfgNode, choices: Sequence[str]) -> list[Step]:
    height, width = cfg.INPUT.SIZE
    larger = max(height, width)
    resize = T.Resize(larger, interpolation=interpolation_mode(cfg))
    steps: list[Step] = [
        (f"resize the smaller edge to {larger}", resize),
        (f"{height}x{width} center crop", T.CenterCrop(cfg.INPUT.SIZE)),
        TO_TENSOR,
    ]
    fixed = ("normalize", "instance_norm")
    return steps + [TENSOR_STEPS[name](cfg.INPUT) for name in fixed if name in choices]
