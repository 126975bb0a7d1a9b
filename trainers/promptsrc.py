"""PromptSRC (Khattak et al., ICCV 2023, arXiv 2307.06948) and TextRefiner on PromptSRC.

Independent deep prompts in both encoders, with three losses that keep them near the frozen CLIP
and a Gaussian-weighted average over epochs (docs/method.md, "PromptSRC"). PromptKD's teachers are
trained with it.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from dassl.engine import TRAINER_REGISTRY

from .encode import encode_image, unit
from .learner import Batch
from .losses import class_logits, distillation_loss
from .prompting.deep import IndependentPrompts, IndependentPromptsLearner
from .refiner import full_precision
from .settings import node
from .trainer import PromptTrainer
from .zsclip import template_features

__all__ = ["PromptSRC", "PromptSRCLearner", "TextRefinerPromptSRC", "gaussian_weights"]

TEMPLATES = 60  # the first of open_clip's OPENAI_IMAGENET_TEMPLATES


class AggregatedPrompts(IndependentPrompts):
    """The prompts and the weighted sum of their values after each epoch.

    The sum is part of the state dict, so a resumed run deploys the same prompts as an
    uninterrupted one.
    """

    aggregate: Tensor

    def __init__(self, clip_model: Any, classnames: Sequence[str], settings: Any) -> None:
        super().__init__(clip_model, classnames, settings)
        values = parameters_to_vector(self.parameters()).detach()
        self.register_buffer("aggregate", torch.zeros_like(values))

    @torch.no_grad()
    def add(self, weight: float) -> None:
        """Add the current prompts with ``weight``."""
        self.aggregate = self.aggregate + weight * parameters_to_vector(self.parameters())

    @torch.no_grad()
    def deploy(self) -> None:
        """Replace the prompts by the sum."""
        vector_to_parameters(self.aggregate, self.parameters())


class PromptSRCLearner(IndependentPromptsLearner):
    """Prompts of both encoders with weighted losses on the distance to the frozen CLIP."""

    def __init__(
        self,
        clip_model: Any,
        deep: IndependentPrompts,
        classnames: Sequence[str],
        text_weight: float,
        image_weight: float,
    ) -> None:
        super().__init__(clip_model, deep)
        self.classnames = classnames
        self.text_weight = text_weight
        self.image_weight = image_weight

    @cached_property
    @torch.no_grad()
    def frozen_text(self) -> Tensor:
        """T0, (C, d): the frozen CLIP's text features, computed at the first training step."""
        # Imported here because it takes seconds and only training needs it.
        from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

        templates = [template("{}") for template in OPENAI_IMAGENET_TEMPLATES[:TEMPLATES]]
        return template_features(self.clip_model, templates, self.classnames, normalize=False)

    def extra_losses(
        self, batch: Batch, features: Tensor, text: Tensor, logits: Tensor
    ) -> dict[str, Tensor]:
        """Return the distances of T, g and the logits to those of the frozen CLIP."""
        frozen_text = self.frozen_text
        with torch.no_grad():
            frozen_features = unit(encode_image(self.clip_model.visual, batch["img"]).pooled)
        with full_precision(features):
            frozen_logits = class_logits(frozen_features, frozen_text, self.logit_scale)
            return {
                "scl_text": self.text_weight * F.l1_loss(text, frozen_text),
                "scl_image": self.image_weight * F.l1_loss(features, frozen_features),
                "scl_logits": distillation_loss(logits, frozen_logits),
            }


def gaussian_weights(epochs: int, mean: float, std: float) -> list[float]:
    """Return weights of epochs 1..E proportional to exp(-((e - mean) / std)^2 / 2), with sum 1."""
    distance = (torch.arange(1, epochs + 1, dtype=torch.float64) - mean) / std
    return (-distance.square() / 2).softmax(dim=0).tolist()


@TRAINER_REGISTRY.register()
class PromptSRC(PromptTrainer):
    """Self-regulating prompts; the last epoch's checkpoint contains the aggregated prompts."""

    config_node = "PROMPTSRC"

    def build_learner(self, clip_model: Any, classnames: list[str]) -> PromptSRCLearner:
        """Build the learner from cfg.TRAINER.PROMPTSRC."""
        settings = node(self.cfg, "PROMPTSRC")
        deep = AggregatedPrompts(clip_model, classnames, settings)
        weights = settings.TEXT_LOSS_WEIGHT, settings.IMAGE_LOSS_WEIGHT
        return PromptSRCLearner(clip_model, deep, classnames, *weights)

    def after_epoch(self) -> None:
        """Aggregate the prompts; deploy them after the last epoch, before it is tested or saved."""
        settings, epochs = node(self.cfg, "PROMPTSRC"), self.cfg.OPTIM.MAX_EPOCH
        weights = gaussian_weights(epochs, settings.GPA_MEAN, settings.GPA_STD)
        prompts = self.model.learner.deep
        prompts.add(weights[self.epoch])
        if self.epoch + 1 == epochs:
            print("Deploy the prompts aggregated over all epochs")
            prompts.deploy()
        super().after_epoch()


@TRAINER_REGISTRY.register()
class TextRefinerPromptSRC(PromptSRC):
    """PromptSRC with TextRefiner; only the prompts are aggregated over the epochs."""

    refined = True
