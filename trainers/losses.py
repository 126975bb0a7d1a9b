"""The losses of docs/method.md as pure functions of tensors.

B images, C classes, P patches, K = top-k + 2 local features per image, d joint width. ``text`` is
(C, d), or (B, C, d) where prompts differ per image (CoCoOp).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["class_logits", "distillation_loss", "regularizer", "salient_tokens", "semantic_loss"]

Loss = Callable[[Tensor, Tensor], Tensor]

TOPK = 5  # patches per image in the local set S; also the default of TRAINER.TEXTREFINER.TOPK


def class_logits(features: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Return scale * features text^T: (B, C) for (B, d), or (B, K, C) for (B, K, d)."""
    if text.dim() == 2:
        return scale * features @ text.T
    return scale * torch.einsum("b...d,bcd->b...c", features, text)


def salient_tokens(local: Tensor, saliency: Tensor, topk: int = TOPK) -> Tensor:
    """Return S (B, topk + 2, d): the CLS row, the ``topk`` most attended patches, the overall mean.

    ``local`` is L, (B, 1+P, d), row 0 is CLS; ``saliency`` is a, (B, P), attention of CLS over the
    patches; ``topk`` is at most P.
    """
    patches = saliency.topk(topk, dim=1).indices + 1  # row 0 of local is CLS
    picked = local.gather(1, patches[..., None].expand(-1, -1, local.shape[-1]))
    return torch.cat([local[:, :1], picked, local.mean(dim=1, keepdim=True)], dim=1)


def semantic_loss(
    salient: Tensor, text: Tensor, target: Tensor, scale: Tensor, loss: Loss = F.cross_entropy
) -> Tensor:
    """Return L2, the method's loss on tau S T^T, which trains the alignment and the prompts.

    Args:
        salient: S, (B, K, d), not normalized.
        text: the *unrefined* T, (C, d) or (B, C, d), L2-normalized.
        target: labels (B,) or a teacher's logits (B, C); each row is repeated K times.
        scale: tau.
        loss: takes logits (B K, C) and the repeated target.
    """
    logits = class_logits(salient, text, scale)
    return loss(logits.flatten(0, 1), target.repeat_interleave(salient.shape[1], dim=0))


def distillation_loss(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Return t^2 KL(softmax(target / t) || softmax(logits / t)), averaged over all N C entries."""
    ours, theirs = ((z / temperature).log_softmax(dim=-1) for z in (logits, target))
    divergence = F.kl_div(ours, theirs, reduction="sum", log_target=True)
    return temperature**2 * divergence / logits.numel()


def regularizer(refined: Tensor, text: Tensor) -> Tensor:
    """Return L3 = mean |normalize(T') - T|, with a gradient to refined and original features."""
    return F.l1_loss(F.normalize(refined, dim=-1), text)
