"""TCP (Yao et al., CVPR 2024, arXiv 2311.18231) and TextRefiner on TCP.

Textual-based class-aware prompts: a bottleneck maps the frozen CLIP's text feature of each class to
tokens that replace the context in one block of the text encoder.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY

from .checkpoints.layouts import META_NET
from .encode import encode_text, unit
from .kgcoop import TEMPLATES as KGCOOP
from .kgcoop import KgCoOpLearner
from .prompting.contexts import ContextPrompts
from .settings import SettingsError, node
from .trainer import PromptTrainer
from .zsclip import DEFAULT_TEMPLATE

__all__ = ["TCP", "ClassAwarePrompts", "TCPLearner", "TextRefinerTCP"]

# Hand-written prompts of T0, and what follows the learned context, with "{}." where there is
# nothing (trainers/tcp.py of github.com/htyao89/Textual-based_Class-aware_prompt_tuning).
TEMPLATES = {
    **KGCOOP,
    "FGVCAircraft": "a photo of an aircraft {}.",
    "Food101": "a photo of a {}, a type of food.",
}
ENDINGS = {
    "OxfordPets": "{}, a type of pet.",
    "OxfordFlowers": "{}, a type of flower.",
    "FGVCAircraft": "{}, a type of aircraft.",
    "DescribableTextures": "{} texture.",
    "StanfordCars": "{}, a type of car",
    "Food101": "{}, a type of food.",
    "UCF101": "person doing {}.",
}
BOTTLENECK = 4  # the hidden layer has d / 4 units


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), CLIP's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to each element."""
        return x * torch.sigmoid(1.702 * x)


class ClassAwarePrompts(ContextPrompts):
    """A shared context, and the network from a text feature (d,) to n tokens (n W).

    The state dict contains ``ctx`` (n, W) and ``meta_net.{linear1,linear2}.{weight,bias}``, as in
    TCP's public checkpoints.
    """

    def __init__(
        self, clip_model: Any, classnames: Sequence[str], n_ctx: int, ctx_init: str, ending: str
    ) -> None:
        super().__init__(clip_model, classnames, n_ctx, ctx_init, ending=ending)
        dim, size = clip_model.text_projection.shape[1], self.ctx.numel()
        hidden = dim // BOTTLENECK
        layers = nn.Linear(dim, hidden), QuickGELU(), nn.Linear(hidden, size)
        self.meta_net = nn.Sequential(OrderedDict(zip(META_NET, layers, strict=True)))

    def class_tokens(self, text: Tensor) -> Tensor:
        """Return tokens (C, n, W) for text features (C, d)."""
        return self.meta_net(text).unflatten(1, self.ctx.shape)


class TCPLearner(KgCoOpLearner):
    """Class-aware tokens that replace the context before block ``layer`` (from 0)."""

    prompts: ClassAwarePrompts

    def __init__(
        self,
        clip_model: Any,
        prompts: ClassAwarePrompts,
        template: str,
        classnames: Sequence[str],
        weight: float,
        layer: int,
    ) -> None:
        super().__init__(clip_model, prompts, template, classnames, weight)
        last = len(clip_model.transformer.resblocks) - 1
        if not 1 <= layer <= last:
            raise SettingsError(
                f"TRAINER.TCP.LAYER must be between 1 and {last}, a block of the text encoder "
                f"counted from 0, got {layer}"
            )
        self.layer = layer

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """Return text features (C, d)."""
        embeddings, packing, prefix = self.prompts()
        classes = self.layer, self.prompts.class_tokens(self.frozen_text)
        return unit(
            encode_text(self.clip_model, embeddings, packing, prefix, class_prompts=classes)
        )


@TRAINER_REGISTRY.register()
class TCP(PromptTrainer):
    """Textual-based class-aware prompt tuning."""

    config_node = "TCP"

    def build_learner(self, clip_model: Any, classnames: list[str]) -> TCPLearner:
        """Build the learner from cfg.TRAINER.TCP."""
        settings, dataset = node(self.cfg, "TCP"), self.cfg.DATASET.NAME
        ending = ENDINGS.get(dataset, "{}.")
        prompts = ClassAwarePrompts(
            clip_model, classnames, settings.N_CTX, settings.CTX_INIT, ending
        )
        template = TEMPLATES.get(dataset, DEFAULT_TEMPLATE)
        weights = settings.WEIGHT, settings.LAYER
        return TCPLearner(clip_model, prompts, template, classnames, *weights)


@TRAINER_REGISTRY.register()
class TextRefinerTCP(TCP):
    """TCP with TextRefiner."""

    refined = True
