"""A trained model with its class names and image transform."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..class_names import feature_warnings, name_warnings, word_warnings
from ..encode import ImageTokens
from ..settings import SettingsError
from ..trainer import RefinedCLIP
from .building import Builder
from .images import Images, batches
from .quiet import log_to_stderr

__all__ = ["Classifier", "Prediction", "has_class_parameters"]


class Prediction(NamedTuple):
    """A class name and its probability."""

    name: str
    score: float


class Classifier:
    """A trained model for C class names; `trainers.classifier.load` makes it.

    Wherever images are an argument, they are one or several paths, PIL images or transformed
    tensors (3, H, W), or one tensor (B, 3, H, W). Results are on the CPU. Example::

        classifier = load("output/.../seed1")
        classifier.scores(["a.jpg", "b.jpg"])  # (2, C) probabilities
        classifier.with_classes(["cat", "dog"]).predict("a.jpg")

    Attributes:
        classnames: C names, in the order of the columns of `logits`.
        transform: RGB PIL image -> tensor (3, H, W), as in the run's tests.
        method, backbone, precision, device, batch_size: what the names say.
        epoch: of the checkpoint; None for the best-val checkpoint, and without checkpoints.
        checkpoint: description of the checkpoint, "" without checkpoints.
        input_settings: cfg.INPUT, from which ``transform`` was built.
    """

    def __init__(
        self,
        model: RefinedCLIP,
        classnames: Sequence[str],
        transform: Callable[[Any], Tensor],
        builder: Builder,
        batch_size: int,
        epoch: int | None,
        checkpoint: str,
    ) -> None:
        self.model = model
        self.classnames = list(classnames)
        self.transform = transform
        self.batch_size = batch_size
        self.epoch = epoch
        self.checkpoint = checkpoint
        self.method = builder.cfg.TRAINER.NAME
        self.backbone = builder.cfg.MODEL.BACKBONE.NAME
        self.precision = builder.precision
        self.device = builder.device
        self.input_settings = builder.cfg.INPUT
        self._builder = builder
        self._text = model.class_features()

    def __repr__(self) -> str:
        return f"Classifier({self.description})"

    @property
    def description(self) -> str:
        """The model in one line."""
        parts = [f"{self.method} on {self.backbone}", self.checkpoint]
        parts += [f"{len(self.classnames)} classes", f"{self.precision} on {self.device}"]
        return ", ".join(filter(None, parts))

    @property
    def text_per_image(self) -> bool:
        """Whether the text features depend on the image (CoCoOp)."""
        return self.model.learner.text_per_image

    @property
    def text_features(self) -> Tensor:
        """The text features (C, d) in float32 as they classify.

        With TextRefiner these are T', which is not normalized: logits are
        ``logit_scale * image_features(images) @ text_features.T``.

        Raises SettingsError for a method with text features per image.
        """
        if self._text is None:
            raise SettingsError(
                f"the text features of {self.method} depend on the image, so there is no matrix of "
                "them: use scores(images) or logits(images)"
            )
        return self._text.float().cpu()

    @property
    def logit_scale(self) -> float:
        """tau = exp(CLIP's logit_scale)."""
        return float(self.model.learner.logit_scale)

    def logits(self, images: Images) -> Tensor:
        """Return the logits (B, C) in float32."""
        with torch.no_grad():
            rows = [self.model(batch, self._text).float().cpu() for batch in self._batches(images)]
        return torch.cat(rows) if rows else torch.zeros(0, len(self.classnames))

    def scores(self, images: Images) -> Tensor:
        """Return the probabilities (B, C): the softmax of the logits over the C classes."""
        return self.logits(images).softmax(dim=-1)

    def predict(self, images: Images, top_k: int = 5) -> list[list[Prediction]]:
        """Return the ``top_k`` (at most C) likeliest classes of each image, best first."""
        if top_k < 1:
            raise SettingsError(f"top_k must be at least 1, got {top_k}")
        best = self.scores(images).topk(min(top_k, len(self.classnames)), dim=-1)
        return [
            [Prediction(self.classnames[i], s) for s, i in zip(values, indices, strict=True)]
            for values, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def encode_image(self, images: Images, local: bool = False) -> ImageTokens:
        """Return image features in float32, not normalized, as `ImageTokens`.

        ``pooled`` is (B, d). With ``local``, ``local`` is (B, 1+P, d_v), the CLS token and P
        patches, and ``saliency`` (B, P) the attention of CLS over them; a ResNet has neither.
        """
        found = []
        with torch.no_grad():
            for batch in self._batches(images):
                tokens = self.model.learner.encode_image(batch, local)
                found.append(tokens.to("cpu", torch.float32))
        if not found:
            raise SettingsError("encode_image needs at least one image, got none")
        pooled, *others = zip(*found, strict=True)
        rest = (None if part[0] is None else torch.cat(part) for part in others)
        return ImageTokens(torch.cat(pooled), *rest)

    def image_features(self, images: Images) -> Tensor:
        """Return the image features (B, d) in float32 as they classify.

        They are the normalized pooled features of `encode_image`, except those of CLIP-Adapter,
        which are adapted, and those of MMRL for the classes of its training: a weighted sum of two
        normalized features.
        """
        learner = self.model.learner
        with torch.no_grad():
            found = [
                learner.image_features(learner.encode_image(batch, False)).float().cpu()
                for batch in self._batches(images)
            ]
        return torch.cat(found) if found else torch.zeros(0, learner.text_dim)

    def with_classes(self, classnames: Sequence[str]) -> "Classifier":
        """Return the same model for other class names, which need not have been trained.

        Raises SettingsError for parameters of single classes (CSC, TaskRes), and for a student
        (PromptKD) if neither teacher_text.pt in the run folder nor the teacher has text features
        of the names.
        """
        names = check_classnames(classnames)
        require_shared_parameters(self.model, self._builder.cfg)
        with log_to_stderr(verbose=False):
            model = self._builder.build(self.model.learner.clip_model, names)
            trained = self.model.trainable_modules()
            for name, module in model.trainable_modules().items():
                module.load_state_dict(trained[name].state_dict())
            warn_about_classes(model, names, self._builder)
        settings = self.batch_size, self.epoch, self.checkpoint
        return Classifier(model, names, self.transform, self._builder, *settings)

    def _batches(self, images: Images) -> Any:
        visual = self.model.learner.clip_model.visual
        found = batches(images, self.transform, self.batch_size, visual.input_resolution)
        return (batch.to(self.device) for batch in found)


def check_classnames(classnames: Sequence[str]) -> list[str]:
    """Return the names as a list, or raise SettingsError if they are not usable as classes."""
    names = [classnames] if isinstance(classnames, str) else list(classnames)
    for problem, found in {
        "no list": isinstance(classnames, str),
        "none": not names,
        "an empty one": any(not str(name).strip() for name in names),
    }.items():
        if found:
            raise SettingsError(
                f"class names must be a list of non-empty names, got {problem}: {names[:5]}"
            )
    return names


def warn_about_classes(model: RefinedCLIP, names: Sequence[str], builder: Builder) -> None:
    """Print warnings about names that the model cannot tell apart or has never seen."""
    found, text_clip = name_warnings(names), model.learner.text_clip
    if text_clip is not None:
        table = text_clip.token_embedding.weight
        found += word_warnings(names, table, "backbone", builder.cfg.MODEL.BACKBONE.NAME)
    text = model.class_features()
    if text is not None:
        found += feature_warnings(names, text)
    for warning in found:
        print(f"warning: {warning}")


def has_class_parameters(model: RefinedCLIP) -> bool:
    """Return whether parameters belong to single classes (CSC, TaskRes)."""
    modules = model.trainable_modules().values()
    return any(getattr(module, "class_tensors", ()) for module in modules)


def require_shared_parameters(model: RefinedCLIP, cfg: Any) -> None:
    """Raise SettingsError if parameters belong to single classes, such as a context for each."""
    if not has_class_parameters(model):
        return
    what, other = "values for each class", "train a method without them (docs/method.md)"
    if hasattr(getattr(model.learner, "prompts", None), "ctx"):
        what = "a context for each class (TRAINER.COOP.CSC True)"
        other = "train it with CSC False"
    raise SettingsError(
        f"this {cfg.TRAINER.NAME} learned {what}, so it cannot classify other classes than those "
        f"of its training: {other}"
    )
