"""KgCoOp (Yao et al., CVPR 2023, arXiv 2303.13283) and TextRefiner on KgCoOp.

CoOp with a loss on the distance of its text features to those of hand-written prompts.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY

from .coop import CoOpLearner
from .learner import Batch
from .prompting.contexts import ContextPrompts
from .settings import node
from .trainer import PromptTrainer
from .zsclip import DEFAULT_TEMPLATE, template_features
from .zsclip import TEMPLATES as ZERO_SHOT

__all__ = ["TEMPLATES", "KgCoOp", "KgCoOpLearner", "TextRefinerKgCoOp"]

# The prompts of T0: those of CoOp's zero-shot baseline but for one (trainers/kgcoop.py of
# github.com/htyao89/KgCoOp).
TEMPLATES = {**ZERO_SHOT, "DescribableTextures": "a photo of a {}, a type of texture."}


class KgCoOpLearner(CoOpLearner):
    """CoOp near the frozen CLIP's features T0 (C, d) of ``template``.

    ``weight`` is that of the distance; with 0 it is not computed.
    """

    def __init__(
        self,
        clip_model: Any,
        prompts: ContextPrompts,
        template: str,
        classnames: Sequence[str],
        weight: float,
    ) -> None:
        super().__init__(clip_model, prompts)
        self.template = template
        self.classnames = classnames
        self.weight = weight

    @cached_property
    @torch.no_grad()
    def frozen_text(self) -> Tensor:
        """T0, (C, d): the frozen CLIP's text features, computed when they are first needed."""
        return template_features(self.clip_model, [self.template], self.classnames)

    def extra_losses(
        self, batch: Batch, features: Tensor, text: Tensor, logits: Tensor
    ) -> dict[str, Tensor]:
        """Return the mean cosine distance of T, which is not refined, to T0."""
        if self.weight == 0:
            return {}
        similarity = (text * self.frozen_text).sum(dim=-1).mean()
        return {"distance": self.weight * (1 - similarity)}


@TRAINER_REGISTRY.register()
class KgCoOp(PromptTrainer):
    """Knowledge-guided context optimization."""

    config_node = "KGCOOP"

    def build_learner(self, clip_model: Any, classnames: list[str]) -> KgCoOpLearner:
        """Build the learner from cfg.TRAINER.KGCOOP."""
        settings = node(self.cfg, "KGCOOP")
        prompts = ContextPrompts(clip_model, classnames, settings.N_CTX, settings.CTX_INIT)
        template = TEMPLATES.get(self.cfg.DATASET.NAME, DEFAULT_TEMPLATE)
        return KgCoOpLearner(clip_model, prompts, template, classnames, settings.WEIGHT)


@TRAINER_REGISTRY.register()
class TextRefinerKgCoOp(KgCoOp):
    """KgCoOp with TextRefiner."""

    refined = True
