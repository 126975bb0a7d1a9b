"""CLIP-Adapter (Gao et al., IJCV 2024, arXiv 2110.04544) and TextRefiner on CLIP-Adapter.

A small residual network on the pooled image feature is trained; the prompts are written by hand.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY

from .checkpoints.layouts import CLIP_ADAPTER
from .encode import ImageTokens, unit
from .learner import Head, PromptLearner
from .refiner import full_precision
from .settings import SettingsError, node
from .trainer import PromptTrainer
from .zsclip import DEFAULT_TEMPLATE, TEMPLATES, template_features

__all__ = ["Adapter", "CLIPAdapter", "CLIPAdapterLearner", "TextRefinerCLIPAdapter"]


class Adapter(nn.Module):
    """ReLU(W2 ReLU(W1 v)) of features v (..., d), with d // ``reduction`` hidden units.

    The state dict has the names of the public checkpoints, ``fc.0.weight`` and ``fc.2.weight``.
    """

    def __init__(self, dim: int, reduction: int) -> None:
        super().__init__()
        hidden = dim // reduction
        self.fc = nn.Sequential(
            nn.Linear(dim, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, dim, bias=False),
            nn.ReLU(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the output (..., d), which is not normalized and not negative."""
        return self.fc(features)


class CLIPAdapterLearner(PromptLearner):
    """Hand-written prompts, and image features (1 - r) v + r adapter(v) of the pooled v (B, d).

    The text features are computed here, on the device of ``clip_model``.

    Args:
        template: with {} for the class name.
        reduction: d over the hidden units of the adapter, at most d.
        ratio: r in [0, 1].
    """

    text: Tensor

    def __init__(
        self,
        clip_model: Any,
        template: str,
        classnames: Sequence[str],
        reduction: int,
        ratio: float,
    ) -> None:
        super().__init__(clip_model)
        with torch.no_grad():
            text = template_features(clip_model, [template], classnames)
        self.register_buffer("text", text, persistent=False)
        self.adapter = Adapter(self.text_dim, reduction)
        self.ratio = ratio

    @property
    def trainable_modules(self) -> dict[str, nn.Module]:
        """The adapter."""
        return {CLIP_ADAPTER: self.adapter}

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """Return text features (C, d)."""
        return self.text

    def heads(self, tokens: ImageTokens) -> list[Head]:
        """Return the adapted features."""
        return [Head("", 1.0, self.image_features(tokens))]

    def image_features(self, tokens: ImageTokens) -> Tensor:
        """Return the adapted features (B, d), normalized."""
        pooled = tokens.pooled.to(next(self.adapter.parameters()).dtype)
        with full_precision(pooled):
            return unit(torch.lerp(pooled, self.adapter(pooled), self.ratio))

    @property
    def normalized_features(self) -> bool:
        """False, because the adapter changes them."""
        return False


@TRAINER_REGISTRY.register()
class CLIPAdapter(PromptTrainer):
    """CLIP-Adapter on the image feature."""

    config_node = "CLIPADAPTER"

    def build_learner(self, clip_model: Any, classnames: list[str]) -> CLIPAdapterLearner:
        """Build the learner from cfg.TRAINER.CLIPADAPTER."""
        settings = node(self.cfg, "CLIPADAPTER")
        dim = clip_model.text_projection.shape[1]
        if dim < settings.REDUCTION:
            raise SettingsError(
                f"TRAINER.CLIPADAPTER.REDUCTION is {settings.REDUCTION}, but the image feature has "
                f"{dim} values: set it to at most {dim}"
            )
        template = TEMPLATES.get(self.cfg.DATASET.NAME, DEFAULT_TEMPLATE)
        sizes = settings.REDUCTION, settings.RATIO
        return CLIPAdapterLearner(clip_model.to(self.device), template, classnames, *sizes)


@TRAINER_REGISTRY.register()
class TextRefinerCLIPAdapter(CLIPAdapter):
    """CLIP-Adapter with TextRefiner."""

    refined = True
