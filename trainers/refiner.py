"""The TextRefiner module (arXiv 2412.08176, "Method"): align, read, aggregate, write.

Plain ``nn.Module``s over tensors: nothing here knows a config, a trainer, a label or CLIP, and
nothing but torch is imported. In a torch.distributed run of several processes, each with its part
of a batch, all of it computes what one process computes with the whole batch. Symbols as in
docs/method.md: T text features (C, d), A cache entries (M, d), V image tokens (B, 1+P, d_v),
L aligned tokens (B, 1+P, d), alpha, mu.

Example::

    refiner = TextRefiner(token_dim=512, dim=512)
    refined = refiner.refine(text)               # (C, 512) -> (C, 512)
    local = refiner.align(tokens)                # (B, 1+P, 512) -> (B, 1+P, 512), training only
    refiner.cache.update(local)                  # moves refiner.cache.entries, no gradient
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

__all__ = ["FeatureAlignment", "LocalCache", "TextRefiner", "updated_entries"]


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context in which matmuls and softmax on ``tensor``'s device stay in its own dtype.

    The cache accumulates over thousands of steps and the softmax over tokens feeds it: half
    precision there is where fp16 runs of this family go NaN.
    """
    return torch.autocast(tensor.device.type, enabled=False)


def in_parallel() -> bool:
    """Whether other processes hold other parts of the batch."""
    return dist.is_available() and dist.is_initialized()


def all_reduce_(tensor: Tensor, op: str) -> Tensor:
    """Replace ``tensor`` in place by its "SUM" or "MAX" over all processes, and return it."""
    if in_parallel():
        dist.all_reduce(tensor, getattr(dist.ReduceOp, op))
    return tensor


def updated_entries(entries: Tensor, tokens: Tensor, momentum: float) -> Tensor:
    """One write to the cache (method.md, "Write"): the pure function behind `LocalCache.update`.

    Token n belongs to its nearest entry j(n) = argmax_j s_nj, s = X A^T, and weighs
    exp(s_nj - max_n' s_n'j); the maximum runs over *all* tokens, not only the assigned ones. Only
    a maximum and a sum cross tokens, so that several processes write the tokens of all of them.

    Args:
        entries: (M, d), unit rows, M >= 1.
        tokens: (N, d), any norm, N >= 1.
        momentum: mu in [0, 1], the share of the old entry that stays.

    Returns:
        (M, d), unit rows. An entry without tokens keeps its direction.
    """
    tokens = F.normalize(tokens, dim=-1)
    scores = tokens @ entries.T  # (N, M)
    best, owner = scores.max(dim=1)
    peak = all_reduce_(scores.amax(dim=0), "MAX")
    weight = (best - peak[owner]).exp()
    # A dense (N, M) assignment turns the segment sum into one matmul: deterministic on every
    # device (index_add is not on CUDA) and without a loop over entries.
    assignment = torch.zeros_like(scores).scatter_(1, owner[:, None], weight[:, None])
    hits = (assignment > 0).sum(dim=0)  # scores lie in [-1, 1], so an assigned weight is > e^-2
    sums = all_reduce_(torch.cat([assignment.T @ tokens, hits[:, None]], dim=1), "SUM")
    moved = momentum * entries + (1 - momentum) * sums[:, :-1]
    return F.normalize(torch.where(sums[:, -1:] > 0, moved, entries), dim=-1)


class LocalCache(nn.Module):
    """M unit vectors that follow the local image tokens by an exponential moving average.

    ``entries`` is a float32 buffer whatever the precision around it, and it is rebound, never
    written in place: autograd still holds the rows that `read` saw in the same step.

    Args:
        size: M, the number of entries; 0 is a cache that reads as zeros and ignores writes.
        dim: d, the width of text features.
        momentum: mu in [0, 1].
    """

    entries: Tensor

    def __init__(self, size: int, dim: int, momentum: float = 0.8) -> None:
        super().__init__()
        if size < 0:
            raise ValueError(f"a cache needs size >= 0 entries, got {size}")
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"cache momentum must lie in [0, 1], got {momentum}")
        self.momentum = momentum
        self.register_buffer("entries", F.normalize(torch.rand(size, dim), dim=-1))

    def read(self, query: Tensor) -> Tensor:
        """R = softmax(T A^T) A: (..., d) -> (..., d) in float32; gradient into the query only."""
        with full_precision(query):
            query = query.to(torch.promote_types(query.dtype, torch.float32))
            entries = self.entries.to(query.dtype)
            return (query @ entries.T).softmax(dim=-1) @ entries

    @torch.no_grad()
    def update(self, tokens: Tensor) -> None:
        """Write local tokens (..., d); see `updated_entries`. No gradient, no host sync."""
        if self.entries.shape[0] == 0:
            return
        if tokens.numel() == 0:
            raise ValueError(f"cannot write {tuple(tokens.shape)} tokens: at least one is needed")
        with full_precision(tokens):
            flat = tokens.reshape(-1, tokens.shape[-1]).to(self.entries.dtype)
            self.entries = updated_entries(self.entries, flat, self.momentum)

    def extra_repr(self) -> str:
        size, dim = self.entries.shape
        return f"size={size}, dim={dim}, momentum={self.momentum}"


class _Total(torch.autograd.Function):
    """The sum over all processes of a tensor, and of the gradients that it gets in each."""

    @staticmethod
    def forward(ctx: FunctionCtx, tensor: Tensor) -> Tensor:
        return all_reduce_(tensor.clone(), "SUM")

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        return all_reduce_(gradient.clone(), "SUM")


class BatchNorm(nn.BatchNorm1d):
    """BatchNorm over the rows of all processes (torch's SyncBatchNorm knows GPUs only).

    In one process, and in eval mode, it is nn.BatchNorm1d itself; its state dict is the same.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, rows: Tensor) -> Tensor:
        """(N, d) -> (N, d); the number of rows may differ between processes."""
        if not (self.training and in_parallel()):
            return super().forward(rows)
        count = rows.new_full((1,), len(rows))
        sums: Tensor = _Total.apply(torch.cat([rows.sum(dim=0), count]))
        total = sums[-1]
        mean = sums[:-1] / total
        centered = rows - mean  # squares of what is left, not of the rows: nothing cancels
        variance = _Total.apply(centered.square().sum(dim=0)) / total
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * total / (total - 1), self.momentum)
        return centered * (variance + self.eps).rsqrt() * self.weight + self.bias


class FeatureAlignment(nn.Module):
    """h: image tokens to the space of text features (paper, "Feature Alignment").

    Linear(token_dim, dim), BatchNorm over all B(1+P) rows, ReLU, Linear(dim, dim). The output is
    not normalized.
    """

    def __init__(self, token_dim: int, dim: int) -> None:
        super().__init__()
        self.inner = nn.Linear(token_dim, dim)
        self.norm = BatchNorm(dim)
        self.outer = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., token_dim) -> (..., dim); in training mode at least two rows in all."""
        rows = self.inner(tokens.reshape(-1, tokens.shape[-1]).to(self.inner.weight.dtype))
        return self.outer(F.relu(self.norm(rows))).view(*tokens.shape[:-1], -1)


class TextRefiner(nn.Module):
    """Refines any text features with what the cache saw in images (paper, "Method").

    Args:
        token_dim: d_v, width of the image tokens (after the vision tower's projection).
        dim: d, width of the text features.
        cache_size: M; 0 leaves the cache out (R = 0).
        momentum: mu of the cache.
        alpha: weight of the aggregated features.
    """

    def __init__(
        self,
        token_dim: int,
        dim: int,
        cache_size: int = 25,
        momentum: float = 0.8,
        alpha: float = 0.2,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.cache = LocalCache(cache_size, dim, momentum)
        self.align = FeatureAlignment(token_dim, dim)
        self.aggregate = nn.Linear(2 * dim, dim, bias=False)

    def refine(self, text: Tensor) -> Tensor:
        """T' = T + alpha W [T ; R(T)], in float32 and not re-normalized.

        Args:
            text: T, L2-normalized, (C, d) or (B, C, d).

        Returns:
            T' of the same shape.
        """
        with full_precision(text):
            text = text.to(self.aggregate.weight.dtype)
            return text + self.alpha * self.aggregate(torch.cat([text, self.cache.read(text)], -1))

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"
