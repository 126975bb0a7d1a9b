"""MaPLe (Khattak et al., CVPR 2023, arXiv 2210.03117) and TextRefiner on MaPLe.

The deep prompts of both encoders are coupled: visual prompts are linear maps of text prompts.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY

from .checkpoints.layouts import MULTI_MODAL, PROMPT_LEARNER
from .coop import CoOpLearner
from .encode import ImageTokens, encode_image, encode_text, unit
from .prompting.contexts import ContextPrompts
from .prompting.deep import require_vision_transformer
from .settings import SettingsError, node
from .trainer import PromptTrainer

__all__ = ["CoupledPrompts", "MaPLe", "MaPLeLearner", "TextRefinerMaPLe"]


class CoupledPrompts(ContextPrompts):
    """Text prompts of ``depth`` blocks, and the linear maps from them to visual prompts.

    The state dict has the public names: ctx, proj, compound_prompts_text.N,
    compound_prompt_projections.N, where N = 0 is the second block.

    Args:
        n_ctx: n, learned tokens per block, initialized from the first words of ``ctx_init``.
        ctx_init: the initial prompt; its other words remain as fixed text.
        depth: number of blocks with prompts, including the input.
    """

    def __init__(
        self, clip_model: Any, classnames: Sequence[str], n_ctx: int, ctx_init: str, depth: int
    ) -> None:
        visual = clip_model.visual
        require_vision_transformer(visual)
        encoders = clip_model.transformer, visual.transformer
        blocks = min(len(encoder.resblocks) for encoder in encoders)
        if not 1 <= depth <= blocks:
            raise SettingsError(
                f"TRAINER.MAPLE.PROMPT_DEPTH must be between 1 and {blocks}, the number of blocks "
                f"in both encoders, got {depth}"
            )
        super().__init__(clip_model, classnames, n_ctx, ctx_init, init_first_words=True)
        text_width, width = self.ctx.shape[-1], visual.class_embedding.shape[0]
        self.proj = nn.Linear(text_width, width)
        self.compound_prompts_text = nn.ParameterList(
            torch.empty(n_ctx, text_width).normal_(std=0.02) for _ in range(depth - 1)
        )
        first = nn.Linear(text_width, width)  # the deeper maps start as copies of one
        self.compound_prompt_projections = nn.ModuleList(deepcopy(first) for _ in range(depth - 1))

    def visual_prompts(self) -> list[Tensor]:
        """Return one (n, vision width) prompt per block for `trainers.encode.encode_image`."""
        deeper = zip(self.compound_prompt_projections, self.compound_prompts_text, strict=True)
        return [self.proj(self.ctx), *(project(prompt) for project, prompt in deeper)]


class MaPLeLearner(CoOpLearner):
    """Coupled prompts in both encoders, trained with cross-entropy."""

    frozen_image_encoder = False
    prompts: CoupledPrompts

    @property
    def trainable_modules(self) -> dict[str, nn.Module]:
        """Prompts and maps under the names of the public checkpoints."""
        return {MULTI_MODAL: nn.ModuleDict({PROMPT_LEARNER: self.prompts})}

    def encode_image(self, image: Tensor, local: bool) -> ImageTokens:
        """Encode images with visual prompts, which receive gradients."""
        return encode_image(self.clip_model.visual, image, self.prompts.visual_prompts(), local)

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """Return text features (C, d)."""
        deep = list(self.prompts.compound_prompts_text)
        embeddings, packing, prefix = self.prompts()
        return unit(encode_text(self.clip_model, embeddings, packing, prefix, deep))


@TRAINER_REGISTRY.register()
class MaPLe(PromptTrainer):
    """Multi-modal prompt learning."""

    config_node = "MAPLE"

    def build_learner(self, clip_model: Any, classnames: list[str]) -> MaPLeLearner:
        """Build the learner from cfg.TRAINER.MAPLE."""
        settings = node(self.cfg, "MAPLE")
        prompts = CoupledPrompts(
            clip_model, classnames, settings.N_CTX, settings.CTX_INIT, settings.PROMPT_DEPTH
        )
        return MaPLeLearner(clip_model, prompts)


@TRAINER_REGISTRY.register()
class TextRefinerMaPLe(MaPLe):
    """MaPLe with TextRefiner."""

    refined = True
