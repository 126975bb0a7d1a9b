"""What a prompt learner provides, and class names as token embeddings."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from clip import clip
from clip.simple_tokenizer import SimpleTokenizer

from .encode import ImageTokens
from .settings import SettingsError

__all__ = ["ClassTokens", "Objective", "PromptLearner", "class_tokens", "tokenizer"]


class Objective(NamedTuple):
    """What the logits of a batch should be; the refiner's losses are relative to its weight.

    name: of the loss in the log.
    weight: of the loss.
    target: a row an image: labels (B,), or a teacher's logits (B, C).
    loss: (logits (N, C), target (N, ...)) -> mean loss; the task's own, and with every row of the
        target repeated that of the refiner's local tokens.
    """

    name: str
    weight: float
    target: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]


class PromptLearner(Protocol):
    """What `trainers.trainer.RefinedCLIP` needs of a learner; an ``nn.Module`` that holds its CLIP.

    clip_model: the frozen CLIP.
    logit_scale: tau = exp(CLIP's logit_scale), a frozen scalar.
    trained: checkpoint name -> module whose parameters are trained and saved; all else is frozen.
    text_dim: d, the width of the text features.
    text_per_image: False if text features depend on the class names alone, so that they are
        computed once per class list at test.
    """

    clip_model: Any
    text_per_image: bool

    @property
    def trainable_modules(self) -> Mapping[str, nn.Module]: ...

    @property
    def logit_scale(self) -> Tensor: ...

    @property
    def text_dim(self) -> int: ...

    def encode_image(self, image: Tensor, local: bool) -> ImageTokens:
        """(B, 3, H, W) -> tokens; `ImageTokens.local` and `.saliency` only if ``local``."""
        ...

    def encode_text(self, features: Tensor | None) -> Tensor:
        """L2-normalized text features in float32, (C, d) or (B, C, d).

        ``features`` (B, d) are the L2-normalized global image features; None only where
        ``text_per_image`` is False.
        """
        ...

    def objective(self, image: Tensor, label: Tensor) -> Objective:
        """How logits of these images are judged."""
        ...

    def extra_losses(
        self, image: Tensor, features: Tensor, text: Tensor, logits: Tensor
    ) -> dict[str, Tensor]:
        """Named, weighted losses beyond the task's.

        Args:
            image: (B, 3, H, W).
            features: g, (B, d).
            text: what `encode_text` returned.
            logits: (B, C).
        """
        ...


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


def class_tokens(clip_model: Any, context: str, classnames: Sequence[str]) -> ClassTokens:
    """Tokenize "<context> <name>." with underscores of a name as spaces, and embed.

    Raises:
        SettingsError: a prompt longer than CLIP's context.
    """
    bpe = tokenizer()
    names = [name.replace("_", " ") for name in classnames]
    lengths = [len(bpe.encode(name)) for name in names]
    room = clip_model.positional_embedding.shape[0]
    rows = []
    for name in names:
        prompt = f"{context} {name}."
        needed = len(bpe.encode(prompt)) + 2  # SOS and EOT
        if needed > room:
            raise SettingsError(
                f"the prompt {prompt!r} takes {needed} tokens, CLIP's context holds {room}: "
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
