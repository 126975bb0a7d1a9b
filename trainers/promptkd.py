"""PromptKD (Li et al., CVPR 2024, arXiv 2403.02781) and TextRefiner on PromptKD.

A student learns visual prompts and a projector so that its image features and the text features of
a larger teacher reproduce the teacher's logits. It needs no labels.
"""

import os
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY

from .backbone import load_clip
from .checkpoints.layouts import IMAGE_ENCODER, PROJECTOR, VL_PROMPT_LEARNER
from .checkpoints.record import read_record
from .checkpoints.teacher import MODALS, check_classes, load_teacher, teacher_path, text_features
from .checkpoints.teacher_text import (
    FILE,
    TeacherText,
    check_teacher,
    fingerprint,
    read_teacher_text,
    write_teacher_text,
)
from .encode import ImageTokens, encode_image, unit
from .feature_store.features import image_encoder_of
from .feature_store.loaders import store_beside_images
from .learner import Batch, Objective, PromptLearner
from .losses import class_logits, distillation_loss
from .prompting.deep import DeepPrompts, IndependentPromptsLearner, vision_prompts
from .refiner import FeatureAlignment, full_precision
from .settings import SettingsError, node
from .trainer import PromptTrainer

__all__ = ["PromptKD", "PromptKDLearner", "TextRefinerPromptKD"]

TEACHER_FEATURES = "teacher_features"  # in a batch: stored pooled features (B, d) of the teacher


class PromptKDLearner(PromptLearner):
    """Visual prompts and a projector into the teacher's joint space (width d).

    ``teacher_text`` are the frozen teacher's text features (C, d); ``teacher`` is None in tests
    that do not need it. ``weight`` is K of the distillation loss, and ``temperature`` is t.
    """

    frozen_image_encoder = False
    teacher_text: Tensor

    def __init__(
        self,
        clip_model: Any,
        prompts: DeepPrompts,
        teacher_text: Tensor,
        teacher: IndependentPromptsLearner | None,
        weight: float = 1.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(clip_model)
        self.teacher = teacher
        self.weight = weight
        self.temperature = temperature
        self.register_buffer("teacher_text", teacher_text, persistent=False)
        self.prompts = prompts
        self.projector = FeatureAlignment(clip_model.visual.output_dim, self.text_dim)

    @property
    def trainable_modules(self) -> dict[str, nn.Module]:
        """Prompts and projector under the names of the public checkpoints."""
        modules = {IMAGE_ENCODER: self.prompts, PROJECTOR: self.projector}
        return {VL_PROMPT_LEARNER: nn.ModuleDict(modules)}

    @property
    def text_clip(self) -> Any:
        """The teacher's CLIP, or None if the teacher was not loaded."""
        return None if self.teacher is None else self.teacher.clip_model

    @property
    def text_dim(self) -> int:
        """d, the teacher's joint width."""
        return self.teacher_text.shape[1]

    def encode_image(self, image: Tensor, local: bool) -> ImageTokens:
        """Project pooled features to (B, d); local tokens remain in the student's joint space."""
        tokens = encode_image(self.clip_model.visual, image, self.prompts(), local)
        with full_precision(tokens.pooled):
            return tokens._replace(pooled=self.projector(tokens.pooled))

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """Return the teacher's text features (C, d)."""
        return self.teacher_text

    def require_teacher(self) -> IndependentPromptsLearner:
        """Return the teacher; raise SettingsError if it was not loaded."""
        if self.teacher is None:
            raise SettingsError(
                "the teacher was not loaded because MODEL_DIR (--model-dir) is set for a test: "
                "leave it out to train"
            )
        return self.teacher

    @torch.no_grad()
    def objective(self, batch: Batch) -> Objective:
        """Return the distillation from the teacher's logits; labels are not used."""
        teacher = self.require_teacher()
        pooled = batch.get(TEACHER_FEATURES)
        if pooled is None:
            pooled = teacher.encode_image(batch["img"], local=False).pooled
        features = unit(pooled)
        with full_precision(features):
            target = class_logits(features, self.teacher_text, teacher.logit_scale)
        loss = partial(distillation_loss, temperature=self.temperature)
        return Objective("kd", self.weight, target, loss)


@TRAINER_REGISTRY.register()
class PromptKD(PromptTrainer):
    """Prompt distillation."""

    config_node = "PROMPTKD"
    distils = True
    teacher_facts: Mapping[str, str] = MappingProxyType({})  # of the teacher in training

    def check_cfg(self, cfg: Any) -> None:
        """Check the settings before anything is loaded."""
        super().check_cfg(cfg)
        batch = cfg.DATALOADER.TRAIN_X.BATCH_SIZE
        if batch < 2:
            raise SettingsError(
                f"DATALOADER.TRAIN_X.BATCH_SIZE must be at least 2, got {batch}: the projector's "
                "BatchNorm needs two images"
            )

    def build_learner(self, clip_model: Any, classnames: list[str]) -> PromptKDLearner:
        """Build the learner from cfg.TRAINER.PROMPTKD, with the teacher if it is needed."""
        settings = node(self.cfg, "PROMPTKD")
        text, teacher = self._stored_text(classnames), None
        if text is None:
            teacher = self._load_teacher(classnames)
            with torch.no_grad():
                text = teacher.encode_text()
        print("The student has no text prompts: N_CTX_TEXT and PROMPT_DEPTH_TEXT are not used")
        prompts = vision_prompts(clip_model, settings.N_CTX_VISION, settings.PROMPT_DEPTH_VISION)
        scales = float(settings.KD_WEIGHT), float(settings.TEMPERATURE)
        return PromptKDLearner(clip_model, prompts, text, teacher, *scales)

    def text_backbone(self) -> tuple[str, str]:
        """Return the key and the name of the teacher's CLIP."""
        return "TRAINER.PROMPTKD.TEACHER_NAME", node(self.cfg, "PROMPTKD").TEACHER_NAME

    def build_model(self) -> None:
        """Build the model; store the teacher's features where training images repeat."""
        super().build_model()
        if (teacher := self.model.learner.teacher) is not None:
            store_beside_images(self, image_encoder_of(teacher), TEACHER_FEATURES, "teacher")

    def _stored_text(self, classnames: list[str]) -> Tensor | None:
        """Return the text features that training saved in MODEL_DIR, if they cover all names."""
        directory = self.cfg.get("MODEL_DIR", "")  # missing in a CoOp checkout
        stored = read_teacher_text(directory) if directory else None
        if stored is None:
            return None
        path, missing = os.path.join(directory, FILE), stored.missing(classnames)
        if missing:
            print(f"{path} lacks {_some(missing)} of {len(classnames)}: loading the teacher")
            return None
        print(
            f"Teacher: not loaded; the text features of {len(classnames)} class names come from "
            f'"{path}" ({len(stored.features)} names, from {stored.teacher} with {stored.weights})'
        )
        return stored.rows(classnames).to(self.device)

    def _load_teacher(self, classnames: list[str]) -> IndependentPromptsLearner:
        """Load the frozen teacher, and check that the model in MODEL_DIR was distilled from it."""
        settings, directory = node(self.cfg, "PROMPTKD"), self.cfg.get("MODEL_DIR", "")
        stored = read_teacher_text(directory) if directory else None
        try:
            path = teacher_path(self.cfg)
        except SettingsError as error:
            if stored is None:
                raise
            raise SettingsError(
                f"{os.path.join(directory, FILE)} has no text features for "
                f"{_some(stored.missing(classnames))}, which the teacher must compute, and {error}"
            ) from error
        if not directory and self.cfg.TRAINER.get("MODAL", MODALS[0]) != "cross":
            dataset = self.dm.dataset
            known = getattr(dataset, "all_classnames", dataset.classnames)
            check_classes(path, known, self.cfg.DATASET.NAME)
        print(f"Teacher: {settings.TEACHER_NAME}")
        name = settings.TEACHER_NAME
        frozen, _ = load_clip(self.cfg, settings.PREC, self.device, name, self.warn)
        teacher = load_teacher(frozen, classnames, path, settings.CTX_INIT).to(self.device)
        if directory:
            _check_student(directory, stored, teacher, path)
        return teacher

    def before_train(self) -> None:
        """Save the teacher's text features to OUTPUT_DIR, for tests without the teacher."""
        learner, settings = self.model.learner, node(self.cfg, "PROMPTKD")
        teacher, path = learner.require_teacher(), teacher_path(self.cfg)
        prompts, dataset = fingerprint(teacher.deep), self.dm.dataset
        text = TeacherText({}, settings.TEACHER_NAME, path, prompts, settings.CTX_INIT)
        text = text.with_rows(learner.teacher_text, dataset.classnames)
        others = text.missing(getattr(dataset, "all_classnames", dataset.classnames))
        if others:  # draws random numbers, so it comes before a resumed run restores their state
            text = text.with_rows(text_features(teacher, others, settings.CTX_INIT), others)
        super().before_train()
        folder = self.cfg.RESUME or self.cfg.OUTPUT_DIR
        stored = read_teacher_text(folder)
        if self.start_epoch:
            _check_student(folder, stored, teacher, path)
        write_teacher_text(text, self.cfg.OUTPUT_DIR)
        self.teacher_facts = text.facts()
        print(
            f"Saved the teacher's text features of {len(text.features)} class names to "
            f'"{os.path.join(self.cfg.OUTPUT_DIR, FILE)}"'
        )

    def describe(self) -> dict[str, Any]:
        """Return also what identifies the teacher, for checkpoint.json."""
        return {**super().describe(), "teacher": dict(self.teacher_facts)}


def _check_student(
    folder: str, stored: TeacherText | None, teacher: IndependentPromptsLearner, path: str
) -> None:
    """Check that the student in ``folder`` was distilled from the teacher in ``path``.

    The teacher is recorded in teacher_text.pt and in checkpoint.json; public folders have neither.
    """
    record = read_record(folder)
    known = [stored.facts()] if stored else []
    known += [record.teacher] if record and record.teacher else []
    for facts in known:
        check_teacher(facts, teacher.deep, path, folder)
    if not known:
        print(
            f"warning: {folder} does not record its teacher: it is correct only if the teacher of "
            f"its training is {path}"
        )


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{', ...' if names[3:] else ''} ({len(names)} class names)"


@TRAINER_REGISTRY.register()
class TextRefinerPromptKD(PromptKD):
    """PromptKD with TextRefiner, which refines the teacher's text features."""

    refined = True
