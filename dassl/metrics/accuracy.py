"""Accuracy of a batch."""

from collections.abc import Sequence

from torch import Tensor


def compute_accuracy(
    output: Tensor | Sequence[Tensor], target: Tensor, topk: Sequence[int] = (1,)
) -> list[Tensor]:
    """Return the accuracy in percent at each k of `topk`, as tensors with one element.

    `output` is a tensor of logits (B, C), or a sequence with it as the first element; `target` are
    labels (B,).
    """
    logits = output if isinstance(output, Tensor) else output[0]
    ranked = logits.topk(max(topk), dim=1).indices  # (B, max k), best first
    hits = ranked == target.view(-1, 1)
    return [hits[:, :k].float().sum().mul(100.0 / target.shape[0]).view(1) for k in topk]
