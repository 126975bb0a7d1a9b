"""Distances between the rows of two matrices."""

from torch import Tensor
from torch.nn import functional as F

from ..utils.errors import UsageError, nearest


def compute_distance_matrix(input1: Tensor, input2: Tensor, metric: str = "euclidean") -> Tensor:
    """Return the distances (M, N) between the rows of (M, D) and (N, D).

    `metric` is "euclidean" (squared) or "cosine".
    """
    metrics = {"euclidean": euclidean_squared_distance, "cosine": cosine_distance}
    if metric not in metrics:
        raise UsageError(f"unknown distance {metric!r}: {nearest(metric, metrics)}")
    if input1.dim() != 2 or input2.dim() != 2 or input1.shape[1] != input2.shape[1]:
        raise UsageError(
            "distances are between the rows of (M, D) and (N, D), "
            f"got {tuple(input1.shape)} and {tuple(input2.shape)}"
        )
    return metrics[metric](input1, input2)


def euclidean_squared_distance(input1: Tensor, input2: Tensor) -> Tensor:
    """Return squared Euclidean distances (M, N)."""
    norms = input1.square().sum(1, keepdim=True) + input2.square().sum(1)
    return norms - 2 * input1 @ input2.T


def cosine_distance(input1: Tensor, input2: Tensor) -> Tensor:
    """Return 1 - cosine similarity (M, N)."""
    return 1 - F.normalize(input1, dim=1) @ F.normalize(input2, dim=1).T
