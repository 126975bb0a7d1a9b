"""A CLIP of a few kB: one block of width 8 in each encoder, and 12 tokens."""

from pathlib import Path

import torch

from clip.model import CLIP, build_model
from clip.weights import load_weights


def tiny_clip() -> CLIP:
    """Return the model with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CLIP(
            embed_dim=4,
            image_resolution=8,
            vision_layers=1,
            vision_width=8,
            vision_patch_size=4,
            context_length=6,
            vocab_size=12,
            transformer_width=8,
            transformer_heads=1,
            transformer_layers=1,
            vision_heads=1,
        ).eval()


def tiny_weights() -> dict[str, torch.Tensor]:
    """Return its state dict in float16."""
    return {name: value.detach().half() for name, value in tiny_clip().state_dict().items()}


def build(path: Path) -> CLIP:
    """Load and build the model in a weights file as clip.load does, with one head."""
    weights = load_weights(str(path))
    quick_gelu, heads = weights.quick_gelu, weights.heads or (1, 1)
    return build_model(weights.state_dict, quick_gelu=quick_gelu, fp16=False, heads=heads)
