"""What pre-training minimizes: pairs of pictures and captions, and two helpers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assets.critters.captions import FACTS

_ATTRIBUTES = ("genus", "ornament", "tail", "pattern", "color")
_PARTS = ("genus", "ornament", "tail")


def contrastive_loss(
    image: Tensor, text: Tensor, scale: Tensor, labels: Tensor, mentions: Tensor
) -> Tensor:
    """InfoNCE over (B, d) features, both ways, without the negatives that are true.

    Caption j is true of picture i if both pictures agree on every fact that the caption mentions:
    labels (B, 8), mentions (B, 8) bool. scale multiplies the cosines.
    """
    agree = labels[:, None] == labels[None]
    also_true = (agree | ~mentions[None]).all(-1).fill_diagonal_(False)
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).t()
    logits = logits.masked_fill(also_true, -1e4)
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2


class Heads(nn.Module):
    """Linear read-outs that help to train the image tower and are thrown away.

    Args:
        dim: of the joint space, where the attributes of a picture are read.
        width: of the patch tokens, where the part that a patch shows is read.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.pooled = nn.ModuleList(nn.Linear(dim, len(FACTS[name])) for name in _ATTRIBUTES)
        # A patch may show no creature, which is one value more than there are genera.
        sizes = (len(FACTS[part]) + (part == "genus") for part in _PARTS)
        self.patches = nn.ModuleList(nn.Linear(width, size) for size in sizes)

    def attribute_loss(self, pooled: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over the attributes: pooled (B, dim), labels (B, 8)."""
        columns = [list(FACTS).index(name) for name in _ATTRIBUTES]
        losses = [
            F.cross_entropy(head(pooled), labels[:, column])
            for head, column in zip(self.pooled, columns, strict=True)
        ]
        return torch.stack(losses).mean()

    def part_loss(self, patches: Tensor, parts: Tensor) -> Tensor:
        """Summed cross-entropy over the parts: patches (B, P, width), parts (B, 3, P)."""
        losses = [
            F.cross_entropy(head(patches).float().flatten(0, 1), parts[:, i].flatten())
            for i, head in enumerate(self.patches)
        ]
        return torch.stack(losses).sum()
