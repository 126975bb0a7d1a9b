"""Hand-written prompts around class names, as token embeddings."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clip import clip

from ..settings import SettingsError
from .contexts import TextPrompts
from .packing import Packing

__all__ = ["TemplatePrompts"]


class TemplatePrompts(nn.Module):
    """The prompts of one template, such as "a photo of a {}.", without learned tokens.

    SOS is their common prefix, so tokens can be inserted after it. The state dict is empty.
    """

    embeddings: Tensor

    def __init__(self, clip_model: Any, template: str, classnames: Sequence[str]) -> None:
        super().__init__()
        texts = [template.format(name.replace("_", " ")) for name in classnames]
        room = clip_model.positional_embedding.shape[0]
        try:
            ids = clip.tokenize(texts, context_length=room)
        except RuntimeError as error:  # OpenAI's error for a text that is too long
            raise SettingsError(f"a class name is too long for {template!r}: {error}") from error
        eot = ids.argmax(dim=-1)
        with torch.no_grad():
            cut = ids[:, : int(eot.max()) + 1].to(clip_model.token_embedding.weight.device)
            embeddings = clip_model.token_embedding(cut).to(clip_model.dtype)
        self.register_buffer("embeddings", embeddings, persistent=False)
        self.packing = Packing([end + 1 for end in eot.tolist()], start=1)

    def forward(self) -> TextPrompts:
        """Return the prompts."""
        return TextPrompts(self.embeddings[:, 1:], self.packing, self.embeddings[0, :1])
