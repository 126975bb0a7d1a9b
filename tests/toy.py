"""Toy CLIPs in OpenAI's layout. Every parameter is random, so that tests detect unused ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clip.model import CLIP, build_model

VOCAB_SIZE = 49408  # of OpenAI's tokenizer
CONTEXT_LENGTH = 77


def toy_clip_state_dict(
    embed_dim: int = 32,
    image_resolution: int = 32,
    patch_size: int = 8,
    vision_width: int = 64,
    vision_layers: int = 3,
    text_width: int = 64,
    text_layers: int = 3,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Return float32 weights of a vision and a text transformer (widths: multiples of 64)."""
    return _random_state_dict(
        seed,
        embed_dim=embed_dim,
        image_resolution=image_resolution,
        vision_layers=vision_layers,
        vision_width=vision_width,
        vision_patch_size=patch_size,
        transformer_width=text_width,
        transformer_layers=text_layers,
    )


def toy_resnet_state_dict(
    embed_dim: int = 32,
    image_resolution: int = 64,
    layers: Sequence[int] = (1, 2, 1, 1),
    width: int = 8,
    text_width: int = 64,
    text_layers: int = 3,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Return float32 weights of a ModifiedResNet (resolution: multiple of 32) and a transformer."""
    return _random_state_dict(
        seed,
        embed_dim=embed_dim,
        image_resolution=image_resolution,
        vision_layers=layers,
        vision_width=width,
        vision_patch_size=None,
        transformer_width=text_width,
        transformer_layers=text_layers,
    )


def toy_clip(**sizes: Any) -> CLIP:
    """Return the model of :func:`toy_clip_state_dict`, in float32 and eval mode."""
    return build_model(toy_clip_state_dict(**sizes), fp16=False)


def toy_resnet(**sizes: Any) -> CLIP:
    """Return the model of :func:`toy_resnet_state_dict`, in float32 and eval mode."""
    return build_model(toy_resnet_state_dict(**sizes), fp16=False)


def save_toy_clip(path: str | Path, **sizes: Any) -> Path:
    """Save :func:`toy_clip_state_dict` as a plain state dict, and return its path."""
    torch.save(toy_clip_state_dict(**sizes), path)
    return Path(path)


def _random_state_dict(seed: int, **sizes: Any) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIP(
            context_length=CONTEXT_LENGTH,
            vocab_size=VOCAB_SIZE,
            transformer_heads=sizes["transformer_width"] // 64,
            **sizes,
        )
        # Replace constant initial values by random ones.
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
            if isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)):
                nn.init.uniform_(module.weight, 0.5, 1.5)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter, std=0.1)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
