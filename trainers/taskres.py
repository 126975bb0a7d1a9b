"""TaskRes (Yu et al., CVPR 2023, arXiv 2211.10277) and TextRefiner on TaskRes.

A residual is learned for the text features of each class; nothing is trained before them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY

from .checkpoints.layouts import PROMPT_LEARNER, RESIDUALS
from .encode import unit
from .learner import PromptLearner
from .settings import node
from .trainer import PromptTrainer
from .zsclip import DEFAULT_TEMPLATE, TEMPLATES, mean_features, simple_templates

__all__ = ["Residuals", "TaskRes", "TaskResLearner", "TextRefinerTaskRes"]


class Residuals(nn.Module):
    """Fixed text features T0 (C, d), not normalized, and a learned residual x (C, d), first zero.

    The state dict has the public names, and contains T0 as the public files do.
    """

    base_text_features: Tensor
    class_tensors = (RESIDUALS,)  # a row for each class, which loads for the same classes only

    def __init__(self, base: Tensor, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("base_text_features", base)
        self.text_feature_residuals = nn.Parameter(torch.zeros_like(base))

    def forward(self) -> Tensor:
        """Return T0 + alpha x."""
        return self.base_text_features + self.scale * self.text_feature_residuals


class TaskResLearner(PromptLearner):
    """Text features of hand-written prompts with a residual, scaled by ``scale``, for each class.

    The features are the mean over ``templates``. They are computed here, on the device of
    ``clip_model``.
    """

    def __init__(
        self, clip_model: Any, templates: Sequence[str], classnames: Sequence[str], scale: float
    ) -> None:
        super().__init__(clip_model)
        with torch.no_grad():
            base = mean_features(clip_model, templates, classnames, normalize=False)
        self.prompts = Residuals(base, scale)

    @property
    def trainable_modules(self) -> dict[str, nn.Module]:
        """The residual."""
        return {PROMPT_LEARNER: self.prompts}

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """Return text features (C, d)."""
        return unit(self.prompts())


@TRAINER_REGISTRY.register()
class TaskRes(PromptTrainer):
    """Task residual tuning."""

    config_node = "TaskRes"

    def build_learner(self, clip_model: Any, classnames: list[str]) -> TaskResLearner:
        """Build the learner from cfg.TRAINER.TaskRes."""
        name = self.cfg.DATASET.NAME
        # As trainers/taskres.py of github.com/geekyutao/TaskRes ("regular base").
        templates = [TEMPLATES.get(name, DEFAULT_TEMPLATE)]
        if name == "ImageNet":
            templates = [*simple_templates(), *templates]
        scale = node(self.cfg, "TaskRes").RESIDUAL_SCALE
        return TaskResLearner(clip_model.to(self.device), templates, classnames, scale)


@TRAINER_REGISTRY.register()
class TextRefinerTaskRes(TaskRes):
    """TaskRes with TextRefiner."""

    refined = True
