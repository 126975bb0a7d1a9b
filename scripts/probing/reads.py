"""What texts read from the cache: weights over the entries, and how much depends on the class.

Symbols are those of docs/method.md: T text features (..., C, d), A entries (M, d), the read
R = softmax(s T A^T) A, (..., C, d), and W = [W1, W2]. Numbers are computed in the refiner's type.
"""

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from trainers.refiner import TextRefiner

__all__ = [
    "RANDOM_SEED",
    "VERSIONS",
    "ReadMeter",
    "class_share",
    "cosines_between",
    "entropy",
    "random_entries",
    "versions",
]

IMAGES_AT_ONCE = 16
RANDOM_SEED = 0
# The text features that classify -> what they are. Those below the first line need a cache.
VERSIONS = {
    "model": "T' as trained",
    "plain": "T, without refinement",
    "renormalized": "T', L2-normalized",
    "mean": "T', R replaced by its mean over the classes",
    "zero": "T', R replaced by 0",
    "cache_mean": "T', R replaced by the mean of A",
    "random": "T', A replaced by random rows",
}


def entropy(weights: Tensor) -> Tensor:
    """Return the entropy in nats, (...), of distributions (..., M); log M is the maximum."""
    return -torch.xlogy(weights, weights).sum(dim=-1)


def class_share(read: Tensor) -> Tensor:
    """Return ||R - mean over classes of R|| / ||R|| in Frobenius norms, (...), of R (..., C, d).

    Only this part can change a prediction: what all classes share adds the same number to all
    logits of an image.
    """
    apart = read - read.mean(dim=-2, keepdim=True)
    return apart.flatten(-2).norm(dim=-1) / read.flatten(-2).norm(dim=-1)


def cosines_between(rows: Tensor) -> Tensor:
    """Return the cosines of all pairs i < j of rows, (..., n (n - 1) / 2), of (..., n, d)."""
    unit = torch.nn.functional.normalize(rows, dim=-1)
    count = rows.shape[-2]
    first, second = torch.triu_indices(count, count, offset=1, device=rows.device)
    return (unit @ unit.transpose(-1, -2))[..., first, second]


def random_entries(entries: Tensor, seed: int) -> Tensor:
    """Return rows (M, d) that are drawn as an untrained cache is, in the type of ``entries``."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(entries.shape, generator=generator, dtype=torch.float32)
    return torch.nn.functional.normalize(rows.to(entries), dim=-1)


def in_type_of(refiner: TextRefiner, text: Tensor) -> Tensor:
    """Return T in the type in which the refiner computes."""
    return text.to(refiner.align.inner.weight.dtype)


def refined_with(refiner: TextRefiner, text: Tensor, read: Tensor) -> Tensor:
    """Return T' with ``read`` in the place of R; its classes broadcast, (..., C, d)."""
    text = in_type_of(refiner, text)
    return refiner.combine(text, read.to(text.dtype).expand_as(text))


def versions(refiner: TextRefiner, text: Tensor, seed: int = RANDOM_SEED) -> dict[str, Tensor]:
    """Return the text features (..., C, d) that classify, as trained and with changes.

    The names are those of `VERSIONS`; without a cache no read is replaced.

    Args:
        text: T, (..., C, d).
        seed: of the random rows, see `random_entries`.
    """
    text = in_type_of(refiner, text)
    refined = refiner(text)
    found = {
        "model": refined,
        "plain": text,
        "renormalized": torch.nn.functional.normalize(refined, dim=-1),
    }
    entries = refiner.cache.entries
    if not len(entries):
        return found
    read = refiner.read(text)
    rows = random_entries(entries, seed)
    return found | {
        "mean": refined_with(refiner, text, read.mean(dim=-2, keepdim=True)),
        "zero": refined_with(refiner, text, torch.zeros_like(read)),
        "cache_mean": refined_with(refiner, text, entries.mean(dim=0)),
        "random": functional_call(refiner, {"cache.entries": rows}, (text,)),
    }


class ReadMeter:
    """Average the statistics of the read over images; without text per image there is one text.

    Attributes:
        count: texts that were added.
        extremes: smallest and largest weight and cosine over all of them.
    """

    def __init__(self, refiner: TextRefiner) -> None:
        self.refiner = refiner
        self.count = 0
        self.sums: dict[str, Tensor] = {}
        self.extremes: dict[str, float] = {}
        square = torch.eye(refiner.cache.entries.shape[1]).to(refiner.align.inner.weight)
        # W without inputs from the read, or still zero, adds nothing that could have a share.
        self.adds = bool(refiner.added(torch.zeros_like(square), square).any())

    @torch.no_grad()
    def add(self, text: Tensor) -> None:
        """Add T, (C, d), or (B, C, d) of B images."""
        # All pairs of classes are compared for each image, so few images fit into memory at once.
        for part in (text if text.dim() == 3 else text[None]).split(IMAGES_AT_ONCE):
            self._add(in_type_of(self.refiner, part))

    def _add(self, text: Tensor) -> None:
        weights, read = self.refiner.cache.weights(text), self.refiner.read(text)
        refined = self.refiner(text)
        change, size = refined - text, text.norm(dim=-1)
        values = {
            "weights": weights,
            "entropy": entropy(weights),
            "share": class_share(read),
            "change": change.norm(dim=-1) / size,
            "change_share": class_share(change),
            "text_cosine": torch.nn.functional.cosine_similarity(refined, text, dim=-1),
        }
        self._extend("weight", weights)
        if self.adds:
            values["added_share"] = class_share(self.refiner.added(torch.zeros_like(text), read))
        if text.shape[1] > 1:
            between = cosines_between(read)
            values["read_cosine"] = between.mean(dim=-1)
            self._extend("cosine", between)
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.sum(dim=0).cpu()
        self.count += len(text)

    def _extend(self, name: str, values: Tensor) -> None:
        low, high = float(values.min()), float(values.max())
        self.extremes[f"{name}_min"] = min(low, self.extremes.get(f"{name}_min", low))
        self.extremes[f"{name}_max"] = max(high, self.extremes.get(f"{name}_max", high))

    def mean(self, name: str) -> Any:
        """Return the mean over images of a statistic as a number or nested lists."""
        return (self.sums[name] / self.count).tolist()
