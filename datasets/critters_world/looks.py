"""Looks of the images: the styles of pre-training and the domain shifts of the dataset.

A look is a set of renderer settings. A style is a look used and named in pre-training ("a sketch of
a dax"). A shift is a look that does not occur in pre-training; the dataset is rendered with it. A
variant of the dataset combines a style with the colors of the dataset's shift.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Look:
    """Settings of the renderer. Lengths are in half image widths, colors in HSV within [0, 1]."""

    scale: tuple[float, float] = (0.54, 0.72)  # smallest and largest creature
    rotation: float = 22.0  # maximum in degrees, to either side
    warp: float = 0.03  # amplitude of the body's deformation
    outline: float = 0.0  # opacity of drawn outlines
    fill: float = 1.0  # opacity of the creature's colors
    saturation: float = 1.0
    hue_noise: float = 0.012  # standard deviation between individuals
    hue_shift: float = 0.0  # added to the hue ...
    hue_share: float = 1.0  # ... of this share of the individuals
    pattern_contrast: float = 1.0
    paper: float = 0.0  # how much of the background is replaced by paper
    clutter: int = 3  # maximum number of background objects
    occlusion: float = 0.15  # probability of an object in front
    darkness: float = 0.0
    levels: int = 0  # posterize to this many levels per channel; 0: off
    blur: int = 0  # passes of a small blur
    noise: float = 0.03  # standard deviation of the sensor noise


PHOTO = Look()

STYLES: dict[str, Look] = {
    "photo": PHOTO,
    "sketch": Look(outline=0.9, fill=0.45, saturation=0.6, paper=0.85, clutter=1, noise=0.02),
    "painting": Look(levels=5, warp=0.06, noise=0.05, saturation=1.15, hue_noise=0.03),
    "dark": Look(darkness=0.6, noise=0.05),
    "blurry": Look(blur=2, noise=0.01),
}

# A camera that does not occur in pre-training, alone and with shifted colors.
_WORN = Look(
    scale=(0.50, 0.70),
    rotation=28.0,
    outline=0.35,
    fill=0.9,
    saturation=0.9,
    hue_noise=0.03,
    pattern_contrast=0.85,
    clutter=5,
    occlusion=0.35,
    noise=0.04,
)

SHIFTS: dict[str, Look] = {
    "photo": PHOTO,  # no shift: the control
    "worn": _WORN,
    "hue12": replace(_WORN, hue_shift=0.12),
    "hue36": replace(_WORN, hue_shift=0.36),
    "morph35": replace(_WORN, hue_shift=0.36, hue_share=0.35),
    "morph50": replace(_WORN, hue_shift=0.36, hue_share=0.5),
    # Added after the first six turned out to be too easy:
    "hue50": replace(_WORN, hue_shift=0.5),
    "far36": replace(_WORN, hue_shift=0.36, scale=(0.34, 0.50)),
    "faded36": replace(_WORN, hue_shift=0.36, pattern_contrast=0.45, fill=0.7, occlusion=0.6),
    "away36": replace(_WORN, hue_shift=0.36, scale=(0.42, 0.60)),
    "pale36": replace(_WORN, hue_shift=0.36, pattern_contrast=0.65, fill=0.8, occlusion=0.45),
    "far50": replace(_WORN, hue_shift=0.5, scale=(0.34, 0.50)),
}

# Critters is rendered with hue50 (chosen by assets/critters/choose_shift.py). Its variants keep the
# hue of that shift and replace the camera by a style.
VARIANTS: dict[str, Look] = {
    f"{style}-hue50": replace(STYLES[style], hue_shift=SHIFTS["hue50"].hue_shift)
    for style in ("sketch", "painting", "dark", "blurry")
}

LOOKS = {**SHIFTS, **VARIANTS}
