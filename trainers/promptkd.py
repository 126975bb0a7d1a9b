"""PromptKD (Li et al., CVPR 2024, arXiv 2403.02781) and TextRefiner on PromptKD.

A student learns visual prompts and a projector so that its image features, against the text
features of a larger teacher, give the teacher's logits. It needs no labels.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY

from .base import PromptTrainer, load_clip
from .deep import DeepPrompts, IndependentPromptsLearner, vision_prompts
from .encode import ImageTokens, encode_image, unit
from .losses import class_logits, distillation_loss
from .prompts import Task
from .refiner import FeatureAlignment, full_precision
from .settings import SettingsError, check_choice, node
from .teacher import MODALS, load_teacher, teacher_path

__all__ = ["PromptKD", "PromptKDLearner", "TextRefinerPromptKD"]


class PromptKDLearner(nn.Module):
    """Visual prompts and a projector into the teacher's joint space (width d).

    Args:
        clip_model: the student, frozen; its text tower is not used.
        prompts: of the student's vision tower.
        teacher: frozen, with its weights; its text features are computed here, once.
        weight: K of the distillation loss, to which the refiner's losses are relative.
        temperature: t.
    """

    text_per_image = False
    teacher_text: Tensor

    def __init__(
        self,
        clip_model: Any,
        prompts: DeepPrompts,
        teacher: IndependentPromptsLearner,
        weight: float = 1.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.clip_model = clip_model
        self.teacher = teacher
        self.weight = weight
        self.temperature = temperature
        with torch.no_grad():
            self.register_buffer("teacher_text", teacher.encode_text(), persistent=False)
        self.prompts = prompts
        self.projector = FeatureAlignment(clip_model.visual.output_dim, self.text_dim)

    @property
    def trained(self) -> dict[str, nn.Module]:
        """Prompts and projector under the names of the public checkpoints."""
        modules = {"image_encoder": self.prompts, "VPT_image_trans": self.projector}
        return {"VLPromptLearner": nn.ModuleDict(modules)}

    @property
    def logit_scale(self) -> Tensor:
        """The student's tau."""
        return self.clip_model.logit_scale.exp()

    @property
    def text_dim(self) -> int:
        """d, the teacher's joint width."""
        return self.teacher_text.shape[1]

    def encode_image(self, image: Tensor, local: bool) -> ImageTokens:
        """Pooled features (B, d) are projected; local tokens stay in the student's joint space."""
        tokens = encode_image(self.clip_model.visual, image, self.prompts(), local)
        with full_precision(tokens.pooled):
            return tokens._replace(pooled=self.projector(tokens.pooled))

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """The teacher's, (C, d); ``features`` are not used."""
        return self.teacher_text

    @torch.no_grad()
    def task(self, image: Tensor, label: Tensor) -> Task:
        """Distillation from the teacher's logits; labels are not used."""
        features = unit(self.teacher.encode_image(image, local=False).pooled)
        with full_precision(features):
            target = class_logits(features, self.teacher_text, self.teacher.logit_scale)

        def loss(logits: Tensor, target: Tensor) -> Tensor:
            return distillation_loss(logits, target, self.temperature)

        return Task("kd", self.weight, target, loss)

    def own_losses(
        self, image: Tensor, features: Tensor, text: Tensor, logits: Tensor
    ) -> dict[str, Tensor]:
        """None."""
        return {}


@TRAINER_REGISTRY.register()
class PromptKD(PromptTrainer):
    """Prompt distillation."""

    config_node = "PROMPTKD"
    distils = True

    def check_cfg(self, cfg: Any) -> None:
        """Refuse settings that cannot work before anything is loaded."""
        super().check_cfg(cfg)
        settings, batch = node(cfg, "PROMPTKD"), cfg.DATALOADER.TRAIN_X.BATCH_SIZE
        check_choice("TRAINER.MODAL", cfg.TRAINER.get("MODAL", MODALS[0]), MODALS)
        rules = {
            "CE_WEIGHT": (settings.CE_WEIGHT == 0, "0: PromptKD uses no labels"),
            "PROJECT_LAYER": (settings.PROJECT_LAYER == 2, "2: there is one form of projector"),
            "TEMPERATURE": (settings.TEMPERATURE > 0, "> 0"),
            "KD_WEIGHT": (settings.KD_WEIGHT > 0, "> 0"),
        }
        for key, (holds, rule) in rules.items():
            if not holds:
                raise SettingsError(f"TRAINER.PROMPTKD.{key} is {settings[key]}, must be {rule}")
        if batch < 2:
            raise SettingsError(
                f"DATALOADER.TRAIN_X.BATCH_SIZE must be at least 2, got {batch}: the projector's "
                "BatchNorm needs two images"
            )

    def build_learner(self, clip_model: Any, classnames: list[str]) -> PromptKDLearner:
        """cfg.TRAINER.PROMPTKD -> learner, teacher included."""
        settings = node(self.cfg, "PROMPTKD")
        path = teacher_path(self.cfg)
        print(f"Teacher: {settings.TEACHER_NAME}")
        frozen, _ = load_clip(self.cfg, settings.PREC, self.device, settings.TEACHER_NAME)
        teacher = load_teacher(frozen, classnames, path, settings.CTX_INIT)
        print("The student has no text prompts: N_CTX_TEXT and PROMPT_DEPTH_TEXT are not used")
        prompts = vision_prompts(clip_model, settings.N_CTX_VISION, settings.PROMPT_DEPTH_VISION)
        weights = float(settings.KD_WEIGHT), float(settings.TEMPERATURE)
        return PromptKDLearner(clip_model, prompts, teacher.to(self.device), *weights)


@TRAINER_REGISTRY.register()
class TextRefinerPromptKD(PromptKD):
    """PromptKD with TextRefiner: the teacher's text features are refined."""

    refined = True
