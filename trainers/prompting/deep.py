"""Deep prompts of both towers, independent of each other, in the public layout of their names.

As IVLP, PromptSRC and PromptKD use them (Rasheed et al., CVPR 2023, arXiv 2212.03640): learned
tokens beside the input, and others that replace them before each of the following blocks.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ..coop import CoOpLearner
from ..encode import ImageTokens, encode_image, encode_text, is_vision_transformer, unit
from ..settings import SettingsError
from .contexts import ContextPrompts

__all__ = ["DeepPrompts", "IndependentPrompts", "IndependentPromptsLearner", "vision_prompts"]


class DeepPrompts(nn.Module):
    """The prompts of one tower; the state dict is ``VPT`` and ``transformer...N.VPT_shallow``.

    Args:
        length: n, tokens a block.
        width: of the tower.
        depth: blocks with prompts, the input's own counted as the first.
        with_input: False where the input's prompts are kept elsewhere (the text tower's context).
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
        """Prompts (n, width), as `trainers.encode` takes them for this tower."""
        blocks: Any = self.transformer["resblocks"]
        first = [] if self.VPT is None else [self.VPT]
        return [*first, *(block.VPT_shallow for block in blocks.values())]


def require_vision_transformer(visual: Any) -> None:
    """Raise SettingsError for a tower that takes no visual prompts (a ResNet)."""
    if not is_vision_transformer(visual):
        raise SettingsError(
            f"{type(visual).__name__} takes no visual prompts: set the backbone to a vision "
            "transformer (ViT-B/16, ViT-B/32, ViT-L/14, ...)"
        )


def _normal(length: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(length, width).normal_(std=0.02))


def vision_prompts(clip_model: Any, length: int, depth: int) -> DeepPrompts:
    """Prompts of the vision tower.

    Raises:
        SettingsError: a ResNet, no token, or more blocks than the tower has.
    """
    visual = clip_model.visual
    require_vision_transformer(visual)
    _check("VISION", length, depth, 0, len(visual.transformer.resblocks))
    return DeepPrompts(length, visual.class_embedding.shape[0], depth, with_input=True)


def _check(tower: str, length: int, depth: int, least: int, blocks: int) -> None:
    if length < 1:
        raise SettingsError(f"N_CTX_{tower} must be at least 1, got {length}")
    if not least <= depth <= blocks:
        raise SettingsError(
            f"PROMPT_DEPTH_{tower} must lie between {least} and {blocks}, the blocks of that "
            f"tower, got {depth}"
        )


class IndependentPrompts(nn.Module):
    """Context, visual and deep text prompts; the state dict has the public layout.

    prompt_learner.ctx, image_encoder.VPT, {image,text}_encoder.transformer.resblocks.N.VPT_shallow.

    Args:
        clip_model: supplies widths and the token embedding.
        classnames: C names.
        settings: N_CTX_VISION, N_CTX_TEXT, CTX_INIT, PROMPT_DEPTH_VISION, PROMPT_DEPTH_TEXT.
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


class IndependentPromptsLearner(CoOpLearner):
    """Both towers prompted, each by its own tokens (IVLP); the shape of a PromptKD teacher."""

    def __init__(self, clip_model: Any, deep: IndependentPrompts) -> None:
        super().__init__(clip_model, deep.prompt_learner)
        self.deep = deep

    @property
    def trainable_modules(self) -> dict[str, nn.Module]:
        """All prompts as one checkpoint."""
        return {"VLPromptLearner": self.deep}

    def encode_image(self, image: Tensor, local: bool) -> ImageTokens:
        """The vision tower with its prompts; gradients flow to them."""
        return encode_image(self.clip_model.visual, image, self.deep.image_encoder(), local)

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """(C, d); ``features`` are not used."""
        embeddings, packing, prefix = self.prompts()
        deep = self.deep.text_encoder()
        return unit(encode_text(self.clip_model, embeddings, packing, prefix, deep))
