"""Top-k accuracy of a batch."""

from collections.abc import Sequence

from torch import Tensor


def compute_accuracy(
    output: Tensor | Sequence[Tensor], target: Tensor, topk: Sequence[int] = (1,)
) -> list[Tensor]:
    """Return the accuracy in percent at each k of `topk`, as tensors of one element.

    Args:
        output: logits (B, C); of a tuple or list the first is taken.
        target: labels (B,).
    """
    logits = output if isinstance(output, Tensor) else output[0]
    ranked = logits.topk(max(topk), dim=1).indices  # (B, max k), best first
    hits = ranked == target.view(-1, 1)
    return [hits[:, :k].float().sum().mul(100.0 / target.shape[0]).view(1) for k in topk]
