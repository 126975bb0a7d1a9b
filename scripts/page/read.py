"""What texts read from the cache: weights over the entries, and how much depends on the class.

Symbols are those of docs/method.md: T text features (..., C, d), A entries (M, d), and the read
R = softmax(s T A^T) A, (..., C, d).
"""

from typing import Any

import torch
from torch import Tensor

from trainers.refiner import TextRefiner

__all__ = ["ReadMeter", "class_share", "cosines_between", "entropy", "versions"]

IMAGES_AT_ONCE = 16


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
    unit = torch.nn.functional.normalize(rows.float(), dim=-1)
    count = rows.shape[-2]
    first, second = torch.triu_indices(count, count, offset=1, device=rows.device)
    return (unit @ unit.transpose(-1, -2))[..., first, second]


def refined_with(refiner: TextRefiner, text: Tensor, read: Tensor) -> Tensor:
    """Return T' with ``read`` in the place of R; its classes broadcast, (..., C, d)."""
    text = text.float()
    return refiner.combine(text, read.to(text.dtype).expand_as(text))


def versions(refiner: TextRefiner, text: Tensor) -> dict[str, Tensor]:
    """Return the text features (..., C, d) that classify, as trained and with changes.

    model: T', as trained; plain: T, without the refiner; mean: T' with R replaced by its mean over
    the classes; zero: T' with R replaced by 0.
    """
    read = refiner.read(text)
    return {
        "model": refiner(text),
        "plain": text.float(),
        "mean": refined_with(refiner, text, read.mean(dim=-2, keepdim=True)),
        "zero": refined_with(refiner, text, torch.zeros_like(read)),
    }


class ReadMeter:
    """Average the statistics of the read over images; without text per image there is one text."""

    def __init__(self, refiner: TextRefiner) -> None:
        self.refiner = refiner
        self.count = 0
        self.sums: dict[str, Tensor] = {}
        self.extremes: dict[str, float] = {}

    @torch.no_grad()
    def add(self, text: Tensor) -> None:
        """Add T, (C, d), or (B, C, d) of B images."""
        # All pairs of classes are compared for each image, so few images fit into memory at once.
        for part in (text if text.dim() == 3 else text[None]).split(IMAGES_AT_ONCE):
            self._add(part)

    def _add(self, text: Tensor) -> None:
        weights, read = self.refiner.cache.weights(text.float()), self.refiner.read(text)
        refined = self.refiner(text)
        change, size = refined - text.float(), text.float().norm(dim=-1)
        cosines = torch.nn.functional.cosine_similarity(refined, text.float(), dim=-1)
        values = {
            "weights": weights,
            "entropy": entropy(weights),
            "share": class_share(read),
            "change": change.norm(dim=-1) / size,
            "change_share": class_share(change),
            "text_cosine": cosines,
        }
        self._extend("weight", weights)
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
