"""Learned contexts around fixed class names."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..learner import class_tokens, tokenizer
from ..settings import SettingsError, check_choice
from .packing import Packing, automatic_chunk

__all__ = ["ContextPrompts", "TextPrompts", "limit_prompts"]

POSITIONS = ("end", "middle", "front")
INIT_WORDS = 4  # MaPLe and PromptSRC initialize longer contexts randomly


class TextPrompts(NamedTuple):
    """The arguments of `trainers.encode.encode_text`."""

    embeddings: Tensor
    packing: Packing
    prefix: Tensor | None


class ContextPrompts(nn.Module):
    """CoOp's prompts: a learned context around fixed class-name tokens (arXiv 2109.01134, eq. 2-3).

    The state dict contains only ``ctx``, (n, W) or class-specific (C, n, W), in float32. Class
    names are buffers outside it, so a context trained on some classes loads with others.

    Args:
        n_ctx: number of context tokens if ``ctx_init`` is empty.
        ctx_init: initial words; as in CoOp, their number replaces ``n_ctx``, and
            ``class_specific`` is ignored.
        class_specific: whether each class has its own context.
        position: of the class name: "end", "middle" (half of the context before it) or "front".
        init_first_words: use ``n_ctx`` with ``ctx_init`` as MaPLe and PromptSRC do: its first
            ``n_ctx`` words are learned, the others remain as fixed text after them, and more than
            `INIT_WORDS` tokens are initialized randomly.
        ending: of the prompt, with "{}" for the class name; others need the name at the end.
        lead: fixed words between SOS and the context, of a shared context with the name at the
            end.
    """

    embeddings: Tensor
    order: Tensor | None

    def __init__(
        self,
        clip_model: Any,
        classnames: Sequence[str],
        n_ctx: int = 16,
        ctx_init: str = "",
        class_specific: bool = False,
        position: str = "end",
        init_first_words: bool = False,
        ending: str = "{}.",
        lead: str = "",
    ) -> None:
        super().__init__()
        check_choice("CLASS_TOKEN_POSITION", position, POSITIONS)
        width = clip_model.ln_final.weight.shape[0]
        if init_first_words and n_ctx > INIT_WORDS and ctx_init:
            print(f'CTX_INIT "{ctx_init}" is not used: it initializes at most {INIT_WORDS} tokens')
            ctx_init = ""
        context = " ".join(ctx_init.replace("_", " ").split())
        if context:
            n_ctx = _initial_tokens(context, n_ctx if init_first_words else None, position)
            words = class_tokens(clip_model, context, ["X"]).ids[0, 1 : 1 + n_ctx]
            table = clip_model.token_embedding.weight  # float32 in half-precision encoders as well
            start = table.detach()[words.to(table.device)].float()
        else:
            if n_ctx < 1:
                raise SettingsError(f"N_CTX must be at least 1, got {n_ctx}")
            context = " ".join(["X"] * n_ctx)
            shape = (len(classnames), n_ctx, width) if class_specific else (n_ctx, width)
            start = torch.empty(shape).normal_(std=0.02)
            kind = "class-specific" if class_specific else "shared"
            print(f"Initial context: {n_ctx} random tokens, {kind}, class name at the {position}")
        self.ctx = nn.Parameter(start)
        tokens = class_tokens(clip_model, f"{lead} {context}".strip(), classnames, ending)
        self.register_buffer("embeddings", tokens.embeddings, persistent=False)
        order = None
        if position != "end":
            before = n_ctx // 2 if position == "middle" else 0
            length = tokens.embeddings.shape[1]
            order = torch.tensor(
                [_token_order(length, n_ctx, before, name) for name in tokens.name_lengths]
            )
        self.register_buffer("order", order, persistent=False)
        self.lead = len(tokenizer().encode(lead))
        if lead and (position != "end" or self.ctx.dim() > 2):
            raise ValueError("words before the context need a shared one and the name at the end")
        shared = 1 + self.lead + n_ctx if order is None and self.ctx.dim() == 2 else 0
        self.packing = Packing([eot + 1 for eot in tokens.eot.tolist()], shared)

    @property
    def class_tensors(self) -> tuple[str, ...]:
        """Names of tensors with a row for each class, which load for the same classes only."""
        return ("ctx",) if self.ctx.dim() == 3 else ()

    @property
    def n_ctx(self) -> int:
        """Number of learned context tokens."""
        return self.ctx.shape[-2]

    def start(self) -> Tensor:
        """Return SOS and the words before the context, (1 + m, W)."""
        return self.embeddings[0, : 1 + self.lead]

    def forward(self, shift: Tensor | None = None) -> TextPrompts:
        """Return the prompts; ``shift`` (B, W) is added to the context per image (CoCoOp)."""
        context = self.ctx if shift is None else self.ctx + shift[:, None]
        context = context.to(self.embeddings.dtype)
        classes = self.embeddings.shape[0]
        after = self.embeddings[:, 1 + self.lead + self.n_ctx :]
        if self.packing.start:
            start = self.start().expand(*context.shape[:-2], -1, -1)
            return TextPrompts(after, self.packing, torch.cat([start, context], dim=-2))
        if shift is not None:
            raise SettingsError(
                "per-image contexts require a shared context and the class name at the end"
            )
        context = context.expand(classes, -1, -1)
        prompts = torch.cat([self.embeddings[:, :1], context, after], dim=1)
        if self.order is not None:
            prompts = prompts.gather(1, self.order[..., None].expand(-1, -1, prompts.shape[-1]))
        return TextPrompts(prompts, self.packing, None)


def limit_prompts(learner: Any, chunk: int, origin: str, device: torch.device) -> None:
    """Limit the prompts in the text encoder at once to ``chunk``, where 0 is `automatic_chunk`.

    Learners without text prompts remain as they are. ``origin`` is the config key of the limit.
    """
    packing = getattr(getattr(learner, "prompts", None), "packing", None)
    if packing is None:
        return
    if chunk == 0:
        tokens = sum(packing.lengths) / len(packing.lengths)
        chunk = automatic_chunk(learner.clip_model, tokens, device)
        origin = f"automatic, {origin} 0"
    packing.set_max_prompts(chunk)
    kind = "images x classes" if learner.text_per_image else "classes"
    print(f"Prompts ({kind}) in the text encoder at once: {chunk:,} at most ({origin})")


def _initial_tokens(context: str, learned: int | None, position: str) -> int:
    """Return the number of learned context tokens taken from CTX_INIT, and log it.

    The family counts words, not tokens. If words have several tokens, the last tokens remain as
    fixed text after the learned ones, so the class name cannot be among them. ``learned`` None
    means all words.
    """
    words, tokens = len(context.split()), len(tokenizer().encode(context))
    if learned is None:
        print(
            f'Initial context: "{context}" ({words} tokens; with CTX_INIT set, N_CTX and CSC '
            "are ignored)"
        )
        if tokens > words and position != "end":
            raise SettingsError(
                f'CTX_INIT "{context}" has {words} words and {tokens} tokens: with '
                f"CLASS_TOKEN_POSITION {position} every word must be one token"
            )
        if tokens > words:
            print(f"The first {words} of its {tokens} tokens are learned")
        return words
    if not 1 <= learned <= words:
        raise SettingsError(
            f'the number of text tokens is {learned}, but CTX_INIT "{context}" can initialize 1 to '
            f"{words}: change one of them, or leave CTX_INIT empty for a random start"
        )
    print(f'Initial context: the first {learned} words of "{context}"')
    return learned


def _token_order(length: int, n_ctx: int, before: int, name: int) -> list[int]:
    """Return for each position of a prompt its index in the layout SOS, context, name, rest.

    ``before`` context tokens precede the name of ``name`` tokens, the others follow it.
    """
    split, start, end = 1 + before, 1 + n_ctx, 1 + n_ctx + name
    return [*range(split), *range(start, end), *range(split, start), *range(end, length)]
