"""Prompt learners for CLIP, plain and refined; importing this registers them with Dassl."""

from . import coop, zsclip
from .settings import extend_cfg

__all__ = ["coop", "extend_cfg", "zsclip"]
