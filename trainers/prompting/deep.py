"""Independent deep prompts of the image and text encoders, with the public parameter names.

They are those of IVLP (Rasheed et al., CVPR 2023, arXiv 2212.03640), PromptSRC and PromptKD:
learned input tokens, and further tokens that replace them before each of the following blocks.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ..checkpoints.layouts import VL_PROMPT_LEARNER
from ..encode import ImageTokens, encode_image, encode_text, is_vision_transformer, unit
from ..learner import PromptLearner
from ..settings import SettingsError
from .contexts import ContextPrompts

__all__ = ["DeepPrompts", "IndependentPrompts", "IndependentPromptsLearner", "vision_prompts"]


class DeepPrompts(nn.Module):
    """The prompts of one encoder, in the state dict ``VPT`` and ``transformer...N.VPT_shallow``.

    ``depth`` blocks have ``length`` tokens each. The first block is the input, which has prompts
    ``with_input`` only; otherwise they are in another module (the learned context).
    """

    def __init__(self, length: int, width: int, depth: int, with_input: bool) -> None:
        super().__init__()
        self.VPT = _normal(length, width) if with_input and depth > 0 else None
        blocks = nn.ModuleDict()
        for block in range(1, depth):
            blocks[str(block)] = nn.Module()
            blocks[str(block)].VPT_shallow = _normal(length, width)
        self.transformer = nn.ModuleDict({"resblocks": blocks})

    def forward(self) -> list[Tensor]:
        """Return the prompts (n, width), one per block, as `trainers.encode` takes them."""
        blocks: Any = self.transformer["resblocks"]
        first = [] if self.VPT is None else [self.VPT]
        return [*first, *(block.VPT_shallow for block in blocks.values())]


def require_vision_transformer(visual: Any) -> None:
    """Raise SettingsError for an image encoder without visual prompts (a ResNet)."""
    if not is_vision_transformer(visual):
        raise SettingsError(
            f"{type(visual).__name__} does not support visual prompts: use a vision transformer as "
            "the backbone (ViT-B/16, ViT-B/32, ViT-L/14, ...)"
        )


def _normal(length: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(length, width).normal_(std=0.02))


def vision_prompts(clip_model: Any, length: int, depth: int) -> DeepPrompts:
    """Return new prompts of the image encoder, or raise SettingsError if it cannot have them."""
    visual = clip_model.visual
    require_vision_transformer(visual)
    _check("VISION", length, depth, 0, len(visual.transformer.resblocks))
    return DeepPrompts(length, visual.class_embedding.shape[0], depth, with_input=True)


def _check(encoder: str, length: int, depth: int, least: int, blocks: int) -> None:
    if length < 1:
        raise SettingsError(f"N_CTX_{encoder} must be at least 1, got {length}")
    if not least <= depth <= blocks:
        raise SettingsError(
            f"PROMPT_DEPTH_{encoder} must be between {least} and {blocks}, the number of its "
            f"encoder's blocks, got {depth}"
        )


class IndependentPrompts(nn.Module):
    """Context, visual and deep text prompts with a state dict in the public layout:

    prompt_learner.ctx, image_encoder.VPT, {image,text}_encoder.transformer.resblocks.N.VPT_shallow.

    ``settings`` has N_CTX_VISION, N_CTX_TEXT, CTX_INIT, PROMPT_DEPTH_VISION, PROMPT_DEPTH_TEXT.
    """

    def __init__(self, clip_model: Any, classnames: Sequence[str], settings: CfgNode) -> None:
        super().__init__()
        length, depth = settings.N_CTX_TEXT, settings.PROMPT_DEPTH_TEXT
        _check("TEXT", length, depth, 1, len(clip_model.transformer.resblocks))
        self.prompt_learner = ContextPrompts(
            clip_model, classnames, length, settings.CTX_INIT, init_first_words=True
        )
        self.image_encoder = vision_prompts(
            clip_model, settings.N_CTX_VISION, settings.PROMPT_DEPTH_VISION
        )
        width = clip_model.ln_final.weight.shape[0]
        self.text_encoder = DeepPrompts(length, width, depth, with_input=False)


class IndependentPromptsLearner(PromptLearner):
    """Independent prompts in both encoders (IVLP), for PromptSRC and PromptKD's teachers."""

    frozen_image_encoder = False

    def __init__(self, clip_model: Any, deep: IndependentPrompts) -> None:
        super().__init__(clip_model)
        self.prompts = deep.prompt_learner
        self.deep = deep

    @property
    def trainable_modules(self) -> dict[str, nn.Module]:
        """All prompts as one checkpoint."""
        return {VL_PROMPT_LEARNER: self.deep}

    def encode_image(self, image: Tensor, local: bool) -> ImageTokens:
        """Encode images with visual prompts, which receive gradients."""
        return encode_image(self.clip_model.visual, image, self.deep.image_encoder(), local)

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """Return text features (C, d)."""
        embeddings, packing, prefix = self.prompts()
        deep = self.deep.text_encoder()
        return unit(encode_text(self.clip_model, embeddings, packing, prefix, deep))
