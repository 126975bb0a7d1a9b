"""Zero-shot CLIP (Radford et al., 2021) with one template per dataset, or with an ensemble."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from clip import clip
from dassl.engine import TRAINER_REGISTRY, TrainerX

from .backbone import load_clip
from .class_names import (
    feature_warnings,
    name_warnings,
    single_class_warnings,
    word_warnings,
)
from .encode import ImageTokens, encode_image, encode_text, unit
from .feature_store.features import ImageEncoder
from .feature_store.loaders import use_feature_store
from .losses import class_logits
from .prompting.packing import Packing
from .settings import DEFAULTS, SettingsError, check_images, check_inputs, check_rows, node
from .warning_list import WarningList

__all__ = ["ZeroshotCLIP", "ZeroshotCLIP2"]

DEFAULT_TEMPLATE = "a photo of a {}."

# The datasets' own templates, as CoOp's zero-shot baseline uses them.
TEMPLATES = {
    "OxfordPets": "a photo of a {}, a type of pet.",
    "OxfordFlowers": "a photo of a {}, a type of flower.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "DescribableTextures": "{} texture.",
    "EuroSAT": "a centered satellite photo of {}.",
    "Food101": "a photo of {}, a type of food.",
    "UCF101": "a photo of a person doing {}.",
}
OWN_IMAGES = "ImageFolder"  # DATASET.NAME of a user's images, which have no published template


def simple_templates() -> list[str]:
    """Return the 7 templates that CoOp's prompt ensemble uses, with {} for the class name."""
    # Imported here because it takes seconds and few trainers need it.
    from open_clip.zero_shot_metadata import SIMPLE_IMAGENET_TEMPLATES

    return [template("{}") for template in SIMPLE_IMAGENET_TEMPLATES]


def context_template(context: str) -> str:
    """Return CoOp's initial prompt for the words of CTX_INIT, with {} for the class name.

    Underscores are spaces. Braces are escaped: `str.format` must replace the class name only.
    """
    words = " ".join(context.replace("_", " ").split())
    escaped = words.replace("{", "{{").replace("}", "}}")
    return f"{escaped} {{}}." if words else DEFAULT_TEMPLATE


def template_features(
    clip_model: Any, templates: Sequence[str], classnames: Sequence[str], normalize: bool = True
) -> Tensor:
    """Return the normalized mean of text features over templates, (C, d); see `mean_features`."""
    return unit(mean_features(clip_model, templates, classnames, normalize))


def mean_features(
    clip_model: Any, templates: Sequence[str], classnames: Sequence[str], normalize: bool
) -> Tensor:
    """Return the mean of text features over templates, (C, d), in float32 or wider.

    ``normalize``: whether to normalize each template's features before the mean.
    """
    names = [name.replace("_", " ") for name in classnames]
    total: Any = 0
    for template in templates:
        try:
            ids = clip.tokenize([template.format(name) for name in names])
        except RuntimeError as error:  # OpenAI's error for a text that is too long
            raise SettingsError(f"a class name is too long for {template!r}: {error}") from error
        device = clip_model.positional_embedding.device
        packing = Packing([eot + 1 for eot in ids.argmax(dim=-1).tolist()]).to(device)
        embeddings = clip_model.token_embedding(ids.to(device)).to(clip_model.dtype)
        features = encode_text(clip_model, embeddings, packing)
        wide = features.to(torch.promote_types(features.dtype, torch.float32))
        total = total + (unit(wide) if normalize else wide)
    return total / len(templates)


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(WarningList, TrainerX):
    """CLIP without training; run it with --eval-only."""

    can_store = True  # DATALOADER.FEATURE_STORE
    parallel = True  # several processes may share the images

    def check_cfg(self, cfg: Any) -> None:
        """Check the settings before anything is loaded."""
        check_rows(cfg)
        check_inputs(cfg)
        check_images(cfg, distils=False)

    def templates(self) -> list[str]:
        """Return the prompt template of the dataset.

        Own images have the one that CoOp starts from, so that both rows of a table begin with the
        user's words (TRAINER.COOP.CTX_INIT).
        """
        name = self.cfg.DATASET.NAME
        if name == OWN_IMAGES:
            return [context_template(node(self.cfg, "COOP").CTX_INIT)]
        return [TEMPLATES.get(name, DEFAULT_TEMPLATE)]

    @torch.no_grad()
    def build_model(self) -> None:
        """Load CLIP and encode the class names once."""
        half = "fp16" if self.device.type == "cuda" else "fp32"
        clip_model, self.precision = load_clip(self.cfg, half, self.device, warn=self.warn)
        self.clip_model = clip_model.to(self.device)
        templates = self.templates()
        print(f"Prompts: {templates}")
        names = self.dm.dataset.classnames
        self.text_features = template_features(self.clip_model, templates, names)
        self._warn(names)
        use_feature_store(self, ImageEncoder(self.encode_image, self.clip_model.visual, {}), False)

    def _warn(self, names: Sequence[str]) -> None:
        """Warn about class names, and about values of PREC that are not used."""
        table, key = self.clip_model.token_embedding.weight, "MODEL.BACKBONE.NAME"
        found = [*name_warnings(names), *single_class_warnings(names, ())]
        found += word_warnings(names, table, key, self.cfg.MODEL.BACKBONE.NAME)
        found += feature_warnings(names, self.text_features)
        for name, defaults in DEFAULTS.items():
            value = self.cfg.TRAINER.get(name, {}).get("PREC")
            # Tests with PREC amp are in float32.
            if value not in (None, defaults.get("PREC"), self.precision) and not (
                value == "amp" and self.precision == "fp32"
            ):
                found.append(
                    f"TRAINER.{name}.PREC {value} is not used: {type(self).__name__} computes in "
                    "fp16 on CUDA and in fp32 on a CPU"
                )
        for text in found:
            self.warn(text)

    def encode_image(self, image: Tensor, local: bool = False) -> ImageTokens:
        """Encode images (B, 3, H, W)."""
        return encode_image(self.clip_model.visual, image, local=local)

    def model_inference(self, input: Tensor | ImageTokens) -> Tensor:
        """Return the logits (B, C) of images (B, 3, H, W) or of their stored tokens."""
        tokens = input if isinstance(input, ImageTokens) else self.encode_image(input)
        features = unit(tokens.pooled)
        return class_logits(features, self.text_features, self.clip_model.logit_scale.exp())

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Raise SettingsError if a directory is given, because there is nothing to load."""
        if directory:
            raise SettingsError(
                f"{type(self).__name__} has no checkpoints: leave out --model-dir {directory}"
            )

    def train(self) -> None:  # type: ignore[override]  # as Dassl's SimpleTrainer
        """Raise SettingsError, because there is nothing to train."""
        raise SettingsError(f"{type(self).__name__} has nothing to train: add --eval-only")


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """Prompt ensemble of 7 ImageNet templates and, except on ImageNet, the dataset's own."""

    def templates(self) -> list[str]:
        """Return open_clip's SIMPLE_IMAGENET_TEMPLATES and the dataset's."""
        own = [] if self.cfg.DATASET.NAME == "ImageNet" else super().templates()
        return simple_templates() + own
