"""The words of CLIP's vocabulary that are nearest to the learned context tokens."""

from typing import Any

import torch
from torch import Tensor

from clip.simple_tokenizer import END, START
from scripts.probing.run import Run
from trainers.learner import tokenizer

from .section import Section, omitted

__all__ = ["nearest_rows", "words"]

WORDS = 5  # of each token
CONTEXTS = 3  # shown, of class-specific contexts


def nearest_rows(tokens: Tensor, table: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the Euclidean distances (n, count) and row numbers of the nearest rows.

    Rows with only zeros are left out: they were never trained.

    Args:
        tokens: (n, W).
        table: (vocabulary, W).
    """
    known = table.ne(0).any(dim=1).nonzero()[:, 0]
    distances = torch.cdist(tokens.double(), table[known].double())
    near = distances.topk(min(count, len(known)), dim=1, largest=False)
    return near.values, known[near.indices]


def words(run: Run) -> Section:
    """Return the nearest words of each context token, with their distances."""
    learner = run.classifier.model.learner
    context = getattr(getattr(learner, "prompts", None), "ctx", None)
    if context is None:
        return omitted(
            f"{run.classifier.method} has no learned text context: its class names are encoded "
            + (
                "by the teacher."
                if hasattr(learner, "teacher_text")
                else "with hand-written prompts."
            )
        )
    table = learner.clip_model.token_embedding.weight.detach().float().cpu()
    decoder = tokenizer().decoder
    known = int(table.ne(0).any(dim=1).sum())
    contexts = context.detach().float().cpu()
    specific = contexts.dim() == 3
    contexts = contexts[:CONTEXTS] if specific else contexts[None]
    rows: list[dict[str, Any]] = []
    for c, tokens in enumerate(contexts):
        distances, ids = nearest_rows(tokens, table, WORDS)
        for position, (near, numbers) in enumerate(
            zip(distances.tolist(), ids.tolist(), strict=True), start=1
        ):
            found = [_word(decoder[i], distance) for distance, i in zip(near, numbers, strict=True)]
            norm = float(tokens[position - 1].norm())
            name = run.classifier.classnames[c] if specific else None
            rows.append({"class": name, "token": position, "norm": norm, "words": found})
    trained = table[table.ne(0).any(dim=1)]
    return Section(
        numbers={
            "tokens": rows,
            "vocabulary": len(table),
            "known": known,
            "mean_word_norm": float(trained.norm(dim=1).mean()),
            "class_specific": specific,
            "shifted_per_image": run.classifier.text_per_image,
            "deep": _has_deeper_prompts(learner),
        }
    )


def _word(token: str, distance: float) -> dict[str, Any]:
    """Return a token of the vocabulary as text, and whether it ends a word."""
    ends = token.endswith("</w>") or token in (START, END)
    return {"word": token.removesuffix("</w>"), "ends": ends, "distance": distance}


def _has_deeper_prompts(learner: Any) -> bool:
    """Return whether further text prompts replace the context in later blocks."""
    deep = getattr(learner, "deep", None)
    deeper = getattr(learner.prompts, "compound_prompts_text", ())
    return bool(len(deeper)) or bool(deep is not None and deep.text_encoder())
