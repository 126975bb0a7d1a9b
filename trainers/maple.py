"""MaPLe (Khattak et al., CVPR 2023, arXiv 2210.03117) and TextRefiner on MaPLe.

Deep prompts of both towers, coupled: the visual ones are linear maps of the text ones.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY

from .coop import CoOpLearner
from .encode import ImageTokens, encode_image, encode_text, unit
from .prompting.contexts import ContextPrompts
from .prompting.deep import require_vision_transformer
from .settings import SettingsError, node
from .trainer import PromptTrainer

__all__ = ["CoupledPrompts", "MaPLe", "MaPLeLearner", "TextRefinerMaPLe"]


class CoupledPrompts(ContextPrompts):
    """Text prompts of ``depth`` blocks and the maps that make visual prompts of them.

    The state dict has the public names: ctx, proj, compound_prompts_text.N,
    compound_prompt_projections.N (N from 0 for the second block on).

    Args:
        clip_model: supplies widths and the token embedding.
        classnames: C names.
        n_ctx: n, learned tokens a block, started from the first words of ``ctx_init``.
        ctx_init: the initial prompt; its other words stay as text.
        depth: blocks with prompts, the input's own counted as the first.

    Raises:
        SettingsError: a ResNet, or more blocks than a tower has.
    """

    def __init__(
        self, clip_model: Any, classnames: Sequence[str], n_ctx: int, ctx_init: str, depth: int
    ) -> None:
        visual = clip_model.visual
        require_vision_transformer(visual)
        towers = clip_model.transformer, visual.transformer
        most = min(len(tower.resblocks) for tower in towers)
        if not 1 <= depth <= most:
            raise SettingsError(
                f"TRAINER.MAPLE.PROMPT_DEPTH must lie between 1 and {most}, the blocks that both "
                f"towers have, got {depth}"
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
        """One (n, vision width) a block, as `trainers.encode.encode_image` takes them."""
        deeper = zip(self.compound_prompt_projections, self.compound_prompts_text, strict=True)
        return [self.proj(self.ctx), *(project(prompt) for project, prompt in deeper)]


class MaPLeLearner(CoOpLearner):
    """Coupled prompts in both towers; the task is CoOp's.

    Args:
        clip_model: frozen.
        prompts: the learned tokens and maps.
    """

    prompts: CoupledPrompts

    @property
    def trainable_modules(self) -> dict[str, nn.Module]:
        """Prompts and maps under the names of the public checkpoints."""
        return {"MultiModalPromptLearner": nn.ModuleDict({"prompt_learner": self.prompts})}

    def encode_image(self, image: Tensor, local: bool) -> ImageTokens:
        """The vision tower with its prompts; gradients flow to them."""
        return encode_image(self.clip_model.visual, image, self.prompts.visual_prompts(), local)

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """(C, d); ``features`` are not used."""
        deep = list(self.prompts.compound_prompts_text)
        embeddings, packing, prefix = self.prompts()
        return unit(encode_text(self.clip_model, embeddings, packing, prefix, deep))


@TRAINER_REGISTRY.register()
class MaPLe(PromptTrainer):
    """Multi-modal prompt learning."""

    config_node = "MAPLE"

    def build_learner(self, clip_model: Any, classnames: list[str]) -> MaPLeLearner:
        """cfg.TRAINER.MAPLE -> learner."""
        settings = node(self.cfg, "MAPLE")
        prompts = CoupledPrompts(
            clip_model, classnames, settings.N_CTX, settings.CTX_INIT, settings.PROMPT_DEPTH
        )
        return MaPLeLearner(clip_model, prompts)


@TRAINER_REGISTRY.register()
class TextRefinerMaPLe(MaPLe):
    """MaPLe with TextRefiner."""

    refined = True
