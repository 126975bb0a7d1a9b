"""MMRL (Guo & Gu, CVPR 2025, arXiv 2503.08497) and TextRefiner on MMRL.

Representation tokens, shared by both encoders, are projected into their higher blocks. A second
image head is trained on them, while the class token's head stays near the frozen CLIP. The second
head is used for the classes of the training only (docs/method.md, "MMRL").
"""

from collections.abc import Sequence
from copy import deepcopy
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY

from .checkpoints.layouts import IMAGE_ENCODER, MULTI_MODAL, REPRESENTATION, SECOND_HEAD
from .checkpoints.record import read_record
from .encode import ImageTokens, encode_image, encode_text, unit
from .learner import Batch, Head, PromptLearner
from .prompting.deep import require_vision_transformer
from .prompting.templates import TemplatePrompts
from .refiner import full_precision
from .settings import SettingsError, node
from .trainer import PromptTrainer
from .zsclip import DEFAULT_TEMPLATE, TEMPLATES, template_features

__all__ = ["MMRL", "MMRLLearner", "RepresentationTokens", "TextRefinerMMRL"]


class RepresentationTokens(nn.Module):
    """Tokens R (n, r) and, for each of ``blocks`` (from 1), their maps into both encoders.

    The state dict has the public names: compound_rep_tokens, and compound_rep_tokens_r2vproj.N and
    compound_rep_tokens_r2tproj.N, where N = 0 is the first of ``blocks``.
    """

    def __init__(self, clip_model: Any, count: int, width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        visual = clip_model.visual
        require_vision_transformer(visual)
        last = min(len(e.resblocks) for e in (clip_model.transformer, visual.transformer))
        if list(blocks) != sorted(set(blocks)) or blocks[-1] > last:
            raise SettingsError(
                f"TRAINER.MMRL.REP_LAYERS is {list(blocks)}: give different blocks in ascending "
                f"order from 1 to {last}, the number of blocks in both encoders"
            )
        self.blocks = [block - 1 for block in blocks]
        self.compound_rep_tokens = nn.Parameter(torch.empty(count, width).normal_(std=0.02))
        # The maps of an encoder start as copies of one.
        to_visual = nn.Linear(width, visual.class_embedding.shape[0])
        to_text = nn.Linear(width, clip_model.ln_final.weight.shape[0])
        self.compound_rep_tokens_r2vproj = _copies(to_visual, len(blocks))
        self.compound_rep_tokens_r2tproj = _copies(to_text, len(blocks))

    def visual(self) -> dict[int, Tensor]:
        """Return block (from 0) of the image encoder -> tokens (n, vision width)."""
        return self._projected(self.compound_rep_tokens_r2vproj)

    def text(self) -> dict[int, Tensor]:
        """Return block (from 0) of the text encoder -> tokens (n, W)."""
        return self._projected(self.compound_rep_tokens_r2tproj)

    def _projected(self, maps: nn.ModuleList) -> dict[int, Tensor]:
        pairs = zip(self.blocks, maps, strict=True)
        return {block: project(self.compound_rep_tokens) for block, project in pairs}


def _copies(layer: nn.Linear, count: int) -> nn.ModuleList:
    return nn.ModuleList(deepcopy(layer) for _ in range(count))


class SecondHead(nn.Module):
    """The trained projection (vision width, d) of the representation tokens."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        width, dim = visual.proj.shape
        start = torch.empty(width, dim).normal_(std=width**-0.5)  # as OpenAI's untrained ``proj``
        self.proj_rep = nn.Parameter(start)


class MMRLLearner(PromptLearner):
    """Hand-written prompts and images, both encoded with representation tokens.

    Args:
        share: alpha, of the class token's head.
        reg_weight: of the distances between the features and those of the frozen CLIP.
    """

    frozen_image_encoder = False

    def __init__(
        self,
        clip_model: Any,
        tokens: RepresentationTokens,
        template: str,
        classnames: Sequence[str],
        share: float,
        reg_weight: float,
    ) -> None:
        super().__init__(clip_model)
        self.tokens = tokens
        self.prompts = TemplatePrompts(clip_model, template, classnames)
        self.second = SecondHead(clip_model.visual)
        self.template = template
        self.classnames = classnames
        self.share = share
        self.reg_weight = reg_weight

    @property
    def trainable_modules(self) -> dict[str, nn.Module]:
        """Tokens, maps and second head under the names of the public checkpoints."""
        modules = {REPRESENTATION: self.tokens, IMAGE_ENCODER: self.second}
        return {MULTI_MODAL: nn.ModuleDict(modules)}

    def encode_image(self, image: Tensor, local: bool) -> ImageTokens:
        """Encode images with representation tokens, which receive gradients."""
        visual, head = self.clip_model.visual, getattr(self.second, SECOND_HEAD)
        return encode_image(visual, image, (), local, self.tokens.visual(), head)

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """Return text features (C, d)."""
        embeddings, packing, prefix = self.prompts()
        inserted = self.tokens.text()
        return unit(encode_text(self.clip_model, embeddings, packing, prefix, (), inserted))

    def heads(self, tokens: ImageTokens) -> list[Head]:
        """Return the head of the class token and that of the representation tokens."""
        if tokens.second is None:
            raise ValueError("MMRL needs tokens of its own encode_image")
        return [
            Head("", self.share, unit(tokens.pooled)),
            Head("_second", 1 - self.share, unit(tokens.second)),
        ]

    def image_features(self, tokens: ImageTokens) -> Tensor:
        """Return the features (B, d) of both heads for the trained classes, else of the first.

        Logits are linear in them, so the weighted sum of features gives that of the logits.
        """
        if not self.trained_classes:
            return unit(tokens.pooled)
        first, second = self.heads(tokens)
        with full_precision(first.features):
            return first.share * first.features + second.share * second.features

    @property
    def normalized_features(self) -> bool:
        """Whether the second head is left out."""
        return not self.trained_classes

    @cached_property
    @torch.no_grad()
    def frozen_text(self) -> Tensor:
        """T0, (C, d): the frozen CLIP's text features, computed at the first training step."""
        return template_features(self.clip_model, [self.template], self.classnames)

    def extra_losses(
        self, batch: Batch, features: Tensor, text: Tensor, logits: Tensor
    ) -> dict[str, Tensor]:
        """Return the mean cosine distances of g and T to those of the frozen CLIP."""
        with torch.no_grad():
            frozen = unit(encode_image(self.clip_model.visual, batch["img"]).pooled)
        with full_precision(features):
            return {
                "reg_image": self.reg_weight * _cosine_distance(features, frozen),
                "reg_text": self.reg_weight * _cosine_distance(text, self.frozen_text),
            }


def _cosine_distance(features: Tensor, others: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(features, others, dim=-1).mean()


@TRAINER_REGISTRY.register()
class MMRL(PromptTrainer):
    """Multi-modal representation learning."""

    config_node = "MMRL"

    def build_learner(self, clip_model: Any, classnames: list[str]) -> MMRLLearner:
        """Build the learner from cfg.TRAINER.MMRL."""
        settings = node(self.cfg, "MMRL")
        tokens = RepresentationTokens(
            clip_model, settings.N_REP_TOKENS, settings.REP_DIM, settings.REP_LAYERS
        )
        template = TEMPLATES.get(self.cfg.DATASET.NAME, DEFAULT_TEMPLATE)
        weights = settings.SCALE, settings.REG_WEIGHT
        return MMRLLearner(clip_model, tokens, template, classnames, *weights)

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load as `PromptTrainer` does; other classes or data are tested with the first head."""
        super().load_model(directory, epoch)
        if not directory:
            return
        learner = self.model.learner
        learner.trained_classes = self._trained_on(directory)
        heads = "both heads" if learner.trained_classes else "the class token's head alone"
        print(f"MMRL: {heads}, as the paper does for this kind of test")

    def _trained_on(self, directory: str) -> bool:
        """Return whether the dataset and the classes of the test are those of the training.

        A public folder does not record them: there it is so unless the new classes are tested.
        """
        record, dataset = read_record(directory), self.cfg.DATASET
        if record is None or record.classes is None:
            return dataset.get("SUBSAMPLE_CLASSES", "all") != "new"
        name = record.settings.get("DATASET.NAME", dataset.NAME)
        return (name, record.classes) == (dataset.NAME, list(self.dm.dataset.classnames))


@TRAINER_REGISTRY.register()
class TextRefinerMMRL(MMRL):
    """MMRL with TextRefiner, which refines the text features of both heads."""

    refined = True
