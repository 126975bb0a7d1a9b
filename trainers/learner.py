"""The base class of prompt learners, and class names as token embeddings."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip import clip
from clip.simple_tokenizer import SimpleTokenizer

from .encode import ImageTokens, encode_image, unit
from .settings import SettingsError

__all__ = [
    "Batch",
    "ClassTokens",
    "Head",
    "Objective",
    "PromptLearner",
    "class_tokens",
    "tokenizer",
]

# A batch of Dassl's loaders: "img" (B, 3, H, W), or its `ImageTokens`; "label" (B,), and others.
Batch = Mapping[str, Any]


class Objective(NamedTuple):
    """The loss between the logits of a batch and their target.

    name: of the loss in the log.
    weight: of the loss; the refiner's losses are multiplied by it as well.
    target: one row per image: labels (B,), or a teacher's logits (B, C).
    loss: (logits (N, C), target (N, ...)) -> mean loss. The refiner calls it on its local tokens,
        with each row of the target repeated.
    """

    name: str
    weight: float
    target: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]


class Head(NamedTuple):
    """A classification head on image features in training.

    name: of its loss in the log, after the objective's name.
    share: of its logits in the model's, and of its loss; the shares of all heads add up to 1.
    features: (B, d), L2-normalized.
    """

    name: str
    share: float
    features: Tensor


class PromptLearner(nn.Module):
    """Base class of prompt learners: a frozen CLIP and the modules trained around it.

    A subclass defines `trainable_modules` and `encode_text`, and overrides what else differs from
    a frozen image encoder with cross-entropy. One that overrides `encode_image` must set
    ``frozen_image_encoder`` in its own body, so that features of a trained encoder are never
    stored as those of a frozen one.
    """

    frozen_image_encoder = True  # whether `encode_image` depends on ``clip_model.visual`` alone
    text_per_image = False  # whether text features depend on the image, or on class names only
    # Whether the class names are those of the training; who loads a trained model sets it.
    trained_classes = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "encode_image" in vars(cls) and "frozen_image_encoder" not in vars(cls):
            raise TypeError(
                f"{cls.__name__} overrides encode_image: set frozen_image_encoder in the class, "
                "to False if trained parameters change its result"
            )

    def __init__(self, clip_model: Any) -> None:
        super().__init__()
        self.clip_model = clip_model

    @property
    def trainable_modules(self) -> Mapping[str, nn.Module]:
        """Checkpoint name -> module that is trained and saved; everything else is frozen."""
        raise NotImplementedError

    @property
    def logit_scale(self) -> Tensor:
        """tau = exp(CLIP's logit_scale), a frozen scalar."""
        return self.clip_model.logit_scale.exp()

    @property
    def text_clip(self) -> Any:
        """The CLIP that encodes the class names, or None if their features come from a file."""
        return self.clip_model

    @property
    def text_dim(self) -> int:
        """d, the width of the text features."""
        return self.clip_model.text_projection.shape[1]

    def encode_image(self, image: Tensor, local: bool) -> ImageTokens:
        """Encode images (B, 3, H, W); local tokens and saliency are returned only if ``local``."""
        with torch.no_grad():
            return encode_image(self.clip_model.visual, image, local=local)

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """Return L2-normalized text features in float32, (C, d) or (B, C, d).

        ``features`` (B, d) are the L2-normalized global image features, which are used only where
        ``text_per_image`` is True.
        """
        raise NotImplementedError

    def heads(self, tokens: ImageTokens) -> list[Head]:
        """Return the heads that training optimizes, by default the normalized pooled feature."""
        return [Head("", 1.0, unit(tokens.pooled))]

    def image_features(self, tokens: ImageTokens) -> Tensor:
        """Return the features (B, d) that classify images at test, by default normalized."""
        return unit(tokens.pooled)

    @property
    def normalized_features(self) -> bool:
        """Whether `image_features` are the normalized pooled features."""
        return True

    def objective(self, batch: Batch) -> Objective:
        """Return the objective of a batch; by default cross-entropy with its labels."""
        return Objective("ce", 1.0, batch["label"], F.cross_entropy)

    def extra_losses(
        self, batch: Batch, features: Tensor, text: Tensor, logits: Tensor
    ) -> dict[str, Tensor]:
        """Return named, weighted losses besides the objective's; by default none.

        ``features`` are g, (B, d), ``text`` is the result of `encode_text`, ``logits`` are (B, C).
        """
        return {}


class ClassTokens(NamedTuple):
    """C tokenized prompts "<context> <class name>."

    ids (C, 77) with EOT the largest id; embeddings (C, L, W) cut after the longest EOT;
    eot (C,) positions; name_lengths: tokens of each class name.
    """

    ids: Tensor
    embeddings: Tensor
    eot: Tensor
    name_lengths: list[int]


@cache
def tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()


def class_tokens(
    clip_model: Any, context: str, classnames: Sequence[str], ending: str = "{}."
) -> ClassTokens:
    """Tokenize and embed "<context> <ending with name>"; underscores in names become spaces.

    Raises SettingsError if a prompt is longer than CLIP's context.
    """
    bpe = tokenizer()
    names = [name.replace("_", " ") for name in classnames]
    lengths = [len(bpe.encode(name)) for name in names]
    room = clip_model.positional_embedding.shape[0]
    rows = []
    for name in names:
        prompt = f"{context} {ending.format(name)}"
        needed = len(bpe.encode(prompt)) + 2  # SOS and EOT
        if needed > room:
            raise SettingsError(
                f"the prompt {prompt!r} has {needed} tokens, but CLIP's context has {room}: "
                "shorten the class name or the context (N_CTX, CTX_INIT)"
            )
        rows.append(clip.tokenize(prompt, context_length=room))
    ids = torch.cat(rows)
    eot = ids.argmax(dim=-1)
    with torch.no_grad():
        device = clip_model.token_embedding.weight.device
        cut = ids[:, : int(eot.max()) + 1].to(device)
        embeddings = clip_model.token_embedding(cut).to(clip_model.dtype)
    return ClassTokens(ids, embeddings, eot.to(device), lengths)
