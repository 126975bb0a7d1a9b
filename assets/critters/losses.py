"""Losses of pre-training: contrastive over images and captions, and two auxiliary ones."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assets.critters.captions import FACTS

UNKNOWN = -100  # label of a fact that is not known
_ATTRIBUTES = ("genus", "ornament", "tail", "pattern", "color")
_PARTS = ("genus", "ornament", "tail")


def contrastive_loss(
    image: Tensor, text: Tensor, scale: Tensor, labels: Tensor, mentions: Tensor
) -> Tensor:
    """Compute the symmetric InfoNCE loss of (B, d) features without false negatives.

    Caption j also describes image i if both images have the same value of every fact that the
    caption mentions.

    ``scale`` multiplies the cosines, ``labels`` (B, 8) are indices of captions.FACTS, and
    ``mentions`` (B, 8) are True for the facts that each caption mentions.
    """
    agree = labels[:, None] == labels[None]
    also_true = (agree | ~mentions[None]).all(-1).fill_diagonal_(False)
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).t()
    logits = logits.masked_fill(also_true, -1e4)
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2


class Heads(nn.Module):
    """Auxiliary linear classifiers for the image encoder, discarded after pre-training.

    Attributes are predicted from pooled features of width ``dim``, visible parts from patch tokens
    of width ``width``.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.pooled = nn.ModuleList(nn.Linear(dim, len(FACTS[name])) for name in _ATTRIBUTES)
        # Genera have one class more: a patch without a creature.
        sizes = (len(FACTS[part]) + (part == "genus") for part in _PARTS)
        self.patches = nn.ModuleList(nn.Linear(width, size) for size in sizes)

    def attribute_loss(self, pooled: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of the attributes: pooled (B, dim), labels (B, 8).

        Labels `UNKNOWN` are left out, and so is an attribute that no image of the batch has.
        """
        losses = []
        for head, name in zip(self.pooled, _ATTRIBUTES, strict=True):
            target = labels[:, list(FACTS).index(name)]
            if (target != UNKNOWN).any():
                losses.append(F.cross_entropy(head(pooled), target, ignore_index=UNKNOWN))
        return torch.stack(losses).mean()

    def part_loss(self, patches: Tensor, parts: Tensor) -> Tensor:
        """Return the summed cross-entropy of the parts: patches (B, P, width), parts (B, 3, P)."""
        losses = [
            F.cross_entropy(head(patches).float().flatten(0, 1), parts[:, i].flatten())
            for i, head in enumerate(self.patches)
        ]
        return torch.stack(losses).sum()
