"""Image transforms by name."""

from .transforms import INTERPOLATION_MODES, build_transform, interpolation_mode, is_random

__all__ = ["INTERPOLATION_MODES", "build_transform", "interpolation_mode", "is_random"]
