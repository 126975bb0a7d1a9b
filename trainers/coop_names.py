"""The names of CoOp's trainers/coop.py that other repositories import from it.

Trainers such as DePT's derive from `CustomCLIP`, and zero-shot trainers load CLIP by
`load_clip_to_cpu`. This project's own CoOp does not use them (see coop.py): they encode all 77
positions of every prompt, where the learners encode those up to the end of the text.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clip import clip
from clip.model import convert_weights

from .learner import tokenizer
from .settings import SettingsError, node

__all__ = ["CustomCLIP", "PromptLearner", "TextEncoder", "load_clip_to_cpu"]


def load_clip_to_cpu(cfg: Any) -> Any:
    """Return the CLIP cfg.MODEL.BACKBONE.NAME on the CPU, with weights in float16 as OpenAI's."""
    model, _ = clip.load(cfg.MODEL.BACKBONE.NAME, device="cpu")
    convert_weights(model)
    return model.eval()


class TextEncoder(nn.Module):
    """CLIP's text encoder for prompts that are given as embeddings."""

    def __init__(self, clip_model: Any) -> None:
        super().__init__()
        self.transformer = clip_model.transformer
        self.positional_embedding = clip_model.positional_embedding
        self.ln_final = clip_model.ln_final
        self.text_projection = clip_model.text_projection
        self.dtype = clip_model.dtype

    def forward(self, prompts: Tensor, tokenized_prompts: Tensor) -> Tensor:
        """Return text features (C, d).

        Args:
            prompts: embeddings (C, 77, W).
            tokenized_prompts: token ids (C, 77), of which the largest is at the end of the text.
        """
        states = prompts + self.positional_embedding.to(self.dtype)
        states = self.transformer(states.transpose(0, 1)).transpose(0, 1)  # it takes (77, C, W)
        end = tokenized_prompts.argmax(dim=-1).to(states.device)
        last = states[torch.arange(len(states), device=states.device), end]
        return self.ln_final(last).to(self.dtype) @ self.text_projection


class PromptLearner(nn.Module):
    """CoOp's prompts: a learned context ``ctx``, and the embedded class names around it.

    The settings are those of cfg.TRAINER.COOP. ``token_prefix`` (C, 1, W) and ``token_suffix``
    (C, 76 - N_CTX, W) are buffers, which CoOp's checkpoints contain.
    """

    token_prefix: Tensor
    token_suffix: Tensor

    def __init__(self, cfg: Any, classnames: Sequence[str], clip_model: Any) -> None:
        super().__init__()
        resolution, size = clip_model.visual.input_resolution, cfg.INPUT.SIZE[0]
        if size != resolution:
            raise SettingsError(
                f"INPUT.SIZE is {size}, but {cfg.MODEL.BACKBONE.NAME} takes images of {resolution} "
                f"pixels: set it to ({resolution}, {resolution})"
            )
        settings, dtype = node(cfg, "COOP"), clip_model.dtype
        words = settings.CTX_INIT.replace("_", " ")
        n_ctx = len(words.split(" ")) if words else settings.N_CTX
        embed = clip_model.token_embedding
        if words:
            with torch.no_grad():
                context = embed(clip.tokenize(words)).to(dtype)[0, 1 : 1 + n_ctx]
        else:
            classes = (len(classnames),) if settings.CSC else ()
            context = torch.empty(*classes, n_ctx, embed.weight.shape[1], dtype=dtype)
            nn.init.normal_(context, std=0.02)
        self.ctx = nn.Parameter(context)
        names = [name.replace("_", " ") for name in classnames]
        start = words or " ".join(["X"] * n_ctx)
        self.tokenized_prompts = torch.cat([clip.tokenize(f"{start} {name}.") for name in names])
        with torch.no_grad():
            embedded = embed(self.tokenized_prompts).to(dtype)
        self.register_buffer("token_prefix", embedded[:, :1])
        self.register_buffer("token_suffix", embedded[:, 1 + n_ctx :])
        self.n_cls, self.n_ctx = len(names), n_ctx
        self.name_lens = [len(tokenizer().encode(name)) for name in names]
        self.class_token_position = settings.CLASS_TOKEN_POSITION

    def forward(self) -> Tensor:
        """Return the embedded prompts (C, 77, W)."""
        context = self.ctx if self.ctx.dim() == 3 else self.ctx.expand(self.n_cls, -1, -1)
        prompts = torch.cat([self.token_prefix, context, self.token_suffix], dim=1)
        order = [self._order(length, prompts.shape[1]) for length in self.name_lens]
        rows = torch.arange(self.n_cls, device=prompts.device)
        return prompts[rows[:, None], torch.tensor(order, device=prompts.device)]

    def _order(self, name_length: int, length: int) -> list[int]:
        """Return where the tokens of start, context, name and end are taken from."""
        before = {"front": 0, "middle": self.n_ctx // 2, "end": self.n_ctx}
        split = 1 + before[self.class_token_position]
        name = 1 + self.n_ctx
        end = name + name_length
        return [*range(split), *range(name, end), *range(split, name), *range(end, length)]


class CustomCLIP(nn.Module):
    """CLIP with CoOp's prompts: images (B, 3, H, W) -> logits (B, C)."""

    def __init__(self, cfg: Any, classnames: Sequence[str], clip_model: Any) -> None:
        super().__init__()
        self.prompt_learner = PromptLearner(cfg, classnames, clip_model)
        self.tokenized_prompts = self.prompt_learner.tokenized_prompts
        self.image_encoder = clip_model.visual
        self.text_encoder = TextEncoder(clip_model)
        self.logit_scale = clip_model.logit_scale
        self.dtype = clip_model.dtype

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (B, C)."""
        features = self.image_encoder(image.to(self.dtype))
        text = self.text_encoder(self.prompt_learner(), self.tokenized_prompts)
        features = features / features.norm(dim=-1, keepdim=True)
        text = text / text.norm(dim=-1, keepdim=True)
        return self.logit_scale.exp() * features @ text.t()
