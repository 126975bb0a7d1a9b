"""How the training tokens use the entries of the cache, and how alike the entries are."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from trainers.checkpoints.load import load_trained
from trainers.classifier.quiet import log_to_stderr
from trainers.classifier.selection import saved_epochs
from trainers.refiner import TextRefiner

from .reads import cosines_between
from .records import EntryUse
from .run import Run
from .scoring import batches

__all__ = ["absent", "entry_use", "entry_uses", "token_cosines", "token_counts"]


def absent(run: Run) -> str:
    """Return why there is no cache, or "" if there is one."""
    refiner = run.classifier.model.refiner
    if refiner is None:
        return f"{run.classifier.method} has no TextRefiner, so it has no cache."
    if not len(refiner.cache.entries):
        return "The cache is switched off in this run (TRAINER.TEXTREFINER.CACHE_SIZE 0)."
    return ""


def token_cosines(local: Tensor, entries: Tensor) -> Tensor:
    """Return the cosines (B, 1+P, M) of aligned tokens L, (B, 1+P, d), and entries A, (M, d)."""
    return normalize(local, dim=-1) @ normalize(entries, dim=-1).to(local.dtype).T


def token_counts(cosines: Tensor) -> Tensor:
    """Return the tokens of each entry, (M,), of cosines (..., M).

    A token belongs to the entry with the largest cosine, as when training writes to the cache.
    """
    owner = cosines.argmax(dim=-1).flatten()
    return torch.bincount(owner, minlength=cosines.shape[-1])


def entry_use(
    epoch: int | None, counts: Tensor, entries: Tensor, before: Tensor | None
) -> EntryUse:
    """Return the use of entries (M, d) with these counts (M,); ``before`` are earlier entries."""
    between = cosines_between(entries) if len(entries) > 1 else None
    kept = None
    if before is not None:
        kept = float(torch.nn.functional.cosine_similarity(entries, before, dim=-1).mean())
    return EntryUse(
        epoch=epoch,
        tokens=counts.tolist(),
        cosine_min=None if between is None else float(between.min()),
        cosine_mean=None if between is None else float(between.mean()),
        cosine_max=None if between is None else float(between.max()),
        kept=kept,
    )


def entry_uses(run: Run) -> list[EntryUse]:
    """Return the use of the entries at each saved epoch, and at the probed checkpoint at the end.

    Each epoch's tokens are those of its own alignment h, and of its own prompts where they change
    the image encoder. The model is that of the probed checkpoint again when this returns.
    """
    classifier = run.classifier
    model, learner = classifier.model, classifier.model.learner
    modules = model.trainable_modules()
    epochs: list[int | None] = [*saved_epochs(str(run.model_folder), list(modules))]
    if classifier.epoch in epochs:
        epochs = epochs[: epochs.index(classifier.epoch) + 1]
    else:
        epochs.append(classifier.epoch)
    refiners: dict[int | None, TextRefiner] = {}
    counts: dict[int | None, Tensor] = {}
    for epoch in epochs:  # the probed one is the last
        names = classifier.classnames
        with log_to_stderr(verbose=False):
            load_trained(modules, str(run.model_folder), epoch, learner.clip_model, names)
        refiners[epoch] = copy.deepcopy(model.refiner)  # type: ignore[assignment]
        if not learner.frozen_image_encoder:
            counts |= _count(run, {epoch: refiners[epoch]})
    if learner.frozen_image_encoder:  # one pass through the images for all epochs
        counts = _count(run, refiners)
    found, before = [], None
    for epoch, refiner in refiners.items():
        entries = refiner.cache.entries
        found.append(entry_use(epoch, counts[epoch], entries, before))
        before = entries
    return found


@torch.no_grad()
def _count(run: Run, refiners: Mapping[int | None, TextRefiner]) -> dict[int | None, Tensor]:
    """Return the tokens of each entry for each refiner, with the run's training images."""
    counts: dict[int | None, Tensor] = {}
    names = ", ".join("best" if epoch is None else str(epoch) for epoch in refiners)
    for batch in batches(run, run.train, f"training images, epoch {names}"):
        images = batch["img"].to(run.classifier.device)
        local: Any = run.classifier.model.learner.encode_image(images, local=True).local
        for epoch, refiner in refiners.items():
            aligned = refiner.align(local.float())
            found = token_counts(token_cosines(aligned, refiner.cache.entries)).cpu()
            counts[epoch] = counts.get(epoch, 0) + found
    return counts
