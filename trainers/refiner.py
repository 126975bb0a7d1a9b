"""The TextRefiner module (arXiv 2412.08176, "Method"): align, read, aggregate, write.

These are plain ``nn.Module``s: they depend on torch alone and on no config, trainer, label or CLIP.
Where torch.distributed runs and each process has a part of the batch, they compute what a single
process computes on the whole batch. Symbols are those of docs/method.md: T text features (C, d),
A cache entries (M, d), V image tokens (B, 1+P, d_v), L aligned tokens (B, 1+P, d), alpha, mu.

Example::

    refiner = TextRefiner(token_dim=512, dim=512)
    refined = refiner(text)                      # (C, 512) -> (C, 512)
    local = refiner.align(tokens)                # (B, 1+P, 512) -> (B, 1+P, 512), training only
    refiner.cache.update(local)                  # changes refiner.cache.entries, no gradient
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

__all__ = ["FeatureAlignment", "LocalCache", "TextRefiner", "updated_entries"]

# The paper's settings, also the defaults of TRAINER.TEXTREFINER.
CACHE_SIZE = 25
MOMENTUM = 0.8
ALPHA = 0.2
READ_SCALE = 1.0


def full_precision(tensor: Tensor) -> torch.autocast:
    """Return a context that disables autocast on the device of ``tensor``.

    The cache accumulates over thousands of steps, so half precision would make fp16 runs diverge.
    """
    return torch.autocast(tensor.device.type, enabled=False)


def in_parallel() -> bool:
    """Return whether the batch is distributed over several processes."""
    return dist.is_available() and dist.is_initialized()


def all_reduce_(tensor: Tensor, op: str) -> Tensor:
    """Replace ``tensor`` in place by its "SUM" or "MAX" over all processes, and return it."""
    if in_parallel():
        dist.all_reduce(tensor, getattr(dist.ReduceOp, op))
    return tensor


def updated_entries(entries: Tensor, tokens: Tensor, momentum: float) -> Tensor:
    """Return the cache entries after one write (docs/method.md, "Write").

    Token n is assigned to its nearest entry j(n) = argmax_j s_nj, s = X A^T, with the weight
    exp(s_nj - max_n' s_n'j). The maximum runs over *all* tokens, not only the assigned ones. Only
    this maximum and a sum are taken over tokens, so both can be all-reduced over processes.

    Args:
        entries: (M, d), unit rows, M >= 1.
        tokens: (N, d), any norm, N >= 1.
        momentum: mu in [0, 1], the weight of the old entry.

    Returns:
        (M, d), unit rows. An entry without tokens keeps its direction.
    """
    tokens = F.normalize(tokens, dim=-1)
    scores = tokens @ entries.T  # (N, M)
    best, owner = scores.max(dim=1)
    peak = all_reduce_(scores.amax(dim=0), "MAX")
    weight = (best - peak[owner]).exp()
    # A dense (N, M) assignment turns the segment sum into one matmul, which is deterministic on
    # every device (index_add is not on CUDA) and needs no loop over entries.
    assignment = torch.zeros_like(scores).scatter_(1, owner[:, None], weight[:, None])
    hits = (assignment > 0).sum(dim=0)  # scores lie in [-1, 1], so an assigned weight is > e^-2
    sums = all_reduce_(torch.cat([assignment.T @ tokens, hits[:, None]], dim=1), "SUM")
    moved = momentum * entries + (1 - momentum) * sums[:, :-1]
    return F.normalize(torch.where(sums[:, -1:] > 0, moved, entries), dim=-1)


class LocalCache(nn.Module):
    """M unit vectors, an exponential moving average of local image tokens.

    ``entries`` is a float32 buffer in every precision. It is rebound and never written in place,
    because autograd still refers to the rows that `read` used in the same step.

    Args:
        size: M, the number of entries. With 0 reads return zeros and writes are ignored.
        dim: d, the width of text features.
        momentum: mu in [0, 1].
        scale: s > 0 of the read; 1 is the method's.
    """

    entries: Tensor

    def __init__(
        self, size: int, dim: int, momentum: float = MOMENTUM, scale: float = READ_SCALE
    ) -> None:
        super().__init__()
        if size < 0:
            raise ValueError(f"the cache needs size >= 0 entries, got {size}")
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"cache momentum must be in [0, 1], got {momentum}")
        if not scale > 0.0:
            raise ValueError(f"the read needs a scale > 0, got {scale}")
        self.momentum = momentum
        self.scale = scale
        self.register_buffer("entries", F.normalize(torch.rand(size, dim), dim=-1))

    def read(self, query: Tensor) -> Tensor:
        """Return R = softmax(s T A^T) A, (..., d), in float32; only T receives a gradient.

        ``query`` is T, (..., d).
        """
        with full_precision(query):
            query = query.to(torch.promote_types(query.dtype, torch.float32))
            return self.weights(query) @ self.entries.to(query.dtype)

    def weights(self, query: Tensor) -> Tensor:
        """Return softmax(s T A^T), (..., M), for T, (..., d), in float32 or float64."""
        return (query @ self.entries.to(query.dtype).T * self.scale).softmax(dim=-1)

    @torch.no_grad()
    def update(self, tokens: Tensor) -> None:
        """Write local tokens (..., d) without gradient or host sync; see `updated_entries`."""
        if self.entries.shape[0] == 0:
            return
        if tokens.numel() == 0:
            raise ValueError(
                f"cannot write tokens of shape {tuple(tokens.shape)}: at least one is needed"
            )
        with full_precision(tokens):
            flat = tokens.reshape(-1, tokens.shape[-1]).to(self.entries.dtype)
            self.entries = updated_entries(self.entries, flat, self.momentum)

    def extra_repr(self) -> str:
        size, dim = self.entries.shape
        return f"size={size}, dim={dim}, momentum={self.momentum}, scale={self.scale}"


class _AllReduceSum(torch.autograd.Function):
    """Sum of a tensor over all processes; its gradients are summed over them as well."""

    @staticmethod
    def forward(ctx: FunctionCtx, tensor: Tensor) -> Tensor:
        return all_reduce_(tensor.clone(), "SUM")

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        return all_reduce_(gradient.clone(), "SUM")


class BatchNorm(nn.BatchNorm1d):
    """BatchNorm over the rows of all processes, on a CPU as well (torch's SyncBatchNorm is not).

    In a single process and in eval mode it is nn.BatchNorm1d. The state dict is the same.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, rows: Tensor) -> Tensor:
        """Normalize rows (N, d); N may differ between processes."""
        if not (self.training and in_parallel()):
            return super().forward(rows)
        count = rows.new_full((1,), len(rows))
        sums: Tensor = _AllReduceSum.apply(torch.cat([rows.sum(dim=0), count]))
        total = sums[-1]
        mean = sums[:-1] / total
        centered = rows - mean  # before squaring, to avoid cancellation
        variance = _AllReduceSum.apply(centered.square().sum(dim=0)) / total
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * total / (total - 1), self.momentum)
        return centered * (variance + self.eps).rsqrt() * self.weight + self.bias


class FeatureAlignment(nn.Module):
    """h, the map of image tokens to the space of text features (paper, "Feature Alignment").

    Linear(token_dim, dim), BatchNorm over all B(1+P) rows, ReLU, Linear(dim, dim). The output is
    not normalized.
    """

    def __init__(self, token_dim: int, dim: int) -> None:
        super().__init__()
        self.inner = nn.Linear(token_dim, dim)
        self.norm = BatchNorm(dim)
        self.outer = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., token_dim) to (..., dim); training mode needs at least two rows."""
        rows = self.inner(tokens.reshape(-1, tokens.shape[-1]).to(self.inner.weight.dtype))
        return self.outer(F.relu(self.norm(rows))).view(*tokens.shape[:-1], -1)


class TextRefiner(nn.Module):
    """Refine text features with local image features from the cache (paper, "Method").

    Args:
        token_dim: d_v, width of the image tokens (after the image encoder's projection).
        dim: d, width of the text features.
        cache_size: M; 0 leaves the cache out (R = 0).
        momentum: mu of the cache.
        alpha: weight of the aggregated features.
        read_scale: s of the read softmax(s T A^T) A.
    """

    aggregate: nn.Module

    def __init__(
        self,
        token_dim: int,
        dim: int,
        *,
        cache_size: int = CACHE_SIZE,
        momentum: float = MOMENTUM,
        alpha: float = ALPHA,
        read_scale: float = READ_SCALE,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.cache = LocalCache(cache_size, dim, momentum, read_scale)
        self.align = FeatureAlignment(token_dim, dim)
        self.aggregate = nn.Linear(2 * dim, dim, bias=False)

    def forward(self, text: Tensor) -> Tensor:
        """Return T' = T + alpha W [T ; R(T)] in float32, of T's shape and not re-normalized.

        ``text`` is T, L2-normalized, (C, d) or (B, C, d).
        """
        with full_precision(text):
            text = text.to(self.align.inner.weight.dtype)
            return self.combine(text, self.read(text))

    def refine(self, text: Tensor) -> Tensor:
        """Return T' as `forward` does, under the documented name."""
        return self.forward(text)

    def read(self, text: Tensor) -> Tensor:
        """Return R, (..., C, d), for T, (..., C, d)."""
        return self.cache.read(text)

    def combine(self, text: Tensor, read: Tensor) -> Tensor:
        """Return T + alpha W [T ; R] for T and R of the same shape and type, (..., C, d)."""
        return text + self.added(text, read)

    def added(self, text: Tensor, read: Tensor) -> Tensor:
        """Return alpha W [T ; R], which is linear in both; arguments are those of `combine`."""
        return self.alpha * self.aggregate(torch.cat([text, read], dim=-1))

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"
