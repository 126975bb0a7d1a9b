"""The cache: the training patches that are nearest to each entry, and how alike the entries are."""

from typing import Any

import torch
from torch import Tensor

from scripts.probing.entries import absent, token_cosines, token_counts
from scripts.probing.reads import cosines_between
from scripts.probing.run import Run
from scripts.probing.scoring import batches

from .figures import histogram
from .section import Section, omitted
from .thumbnails import data_uri, outlined, patch_box, pixels, tensor_of

__all__ = ["NearestPatches", "cache"]

PATCHES = 4  # of each entry, from different images
SHOWN_ENTRIES = 50
CONTEXT = 1  # patches around the shown one


class NearestPatches:
    """Count the tokens of each entry, and keep the nearest patches, batch by batch.

    A token belongs to the entry with the largest cosine, as when training writes to the cache. Of
    each image only the patch nearest to an entry is kept, because its neighbors look alike.

    Args:
        entries: A, (M, d), unit rows.
        keep: patches for each entry.
    """

    def __init__(self, entries: Tensor, keep: int = PATCHES) -> None:
        self.entries = entries
        size = len(entries)
        self.keep = keep
        self.counts = torch.zeros(size, dtype=torch.long)
        self.cosines = torch.full((size, keep), -torch.inf)
        self.images = torch.full((size, keep), -1)
        self.patches = torch.full((size, keep), -1)
        self.seen = 0

    @torch.no_grad()
    def add(self, local: Tensor) -> None:
        """Add aligned tokens L, (B, 1+P, d), in the order of the images; row 0 is CLS."""
        cosines = token_cosines(local.float(), self.entries).cpu()  # (B, 1+P, M)
        self.counts += token_counts(cosines)
        best, patch = cosines[:, 1:].max(dim=1)  # (B, M)
        number = torch.arange(self.seen, self.seen + len(local))
        values = torch.cat([self.cosines, best.T], dim=1)
        images = torch.cat([self.images, number.expand(len(self.entries), -1)], dim=1)
        patches = torch.cat([self.patches, patch.T], dim=1)
        self.cosines, order = values.topk(self.keep, dim=1)
        self.images, self.patches = images.gather(1, order), patches.gather(1, order)
        self.seen += len(local)

    def nearest(self, entry: int) -> list[tuple[float, int, int]]:
        """Return (cosine, image, patch) of the entry's patches, nearest first."""
        rows = zip(
            self.cosines[entry].tolist(),
            self.images[entry].tolist(),
            self.patches[entry].tolist(),
            strict=True,
        )
        return [row for row in rows if row[1] >= 0]


@torch.no_grad()
def cache(run: Run) -> Section:
    """Return the entries with their tokens, patches and nearest other entry."""
    if reason := absent(run):
        return omitted(reason)
    model, device = run.classifier.model, run.classifier.device
    refiner: Any = model.refiner
    entries = torch.nn.functional.normalize(refiner.cache.entries.float(), dim=-1)
    found, patches, paths = NearestPatches(entries), 0, []
    for batch in batches(run, run.train, "training images"):
        local: Any = model.learner.encode_image(batch["img"].to(device), local=True).local
        found.add(refiner.align(local.float()))
        patches = local.shape[1] - 1
        paths += batch["impath"]
    between = cosines_between(entries).cpu()
    alike = (entries @ entries.T).cpu().fill_diagonal_(-torch.inf)
    rows: list[dict[str, Any]] = []
    pictures: list[list[str]] = []
    total = int(found.counts.sum())
    for j in range(len(entries)):
        near = found.nearest(j)
        row: dict[str, Any] = {
            "entry": j + 1,
            "tokens": int(found.counts[j]),
            "share": int(found.counts[j]) / total,
            "patches": [{"path": paths[i], "patch": p, "cosine": c} for c, i, p in near],
        }
        if len(entries) > 1:
            row |= {"nearest_entry": int(alike[j].argmax()) + 1, "cosine": float(alike[j].max())}
        rows.append(row)
    rows.sort(key=lambda row: -row["tokens"])
    for row in rows[:SHOWN_ENTRIES]:
        pictures.append([_patch(run, p["path"], p["patch"], patches) for p in row["patches"]])
    numbers: dict[str, Any] = {
        "entries": rows,
        "size": len(entries),
        "shown": min(len(entries), SHOWN_ENTRIES),
        "images": found.seen,
        "available_images": run.train_size,
        "tokens": total,
        "empty": int((found.counts == 0).sum()),
    }
    drawn: dict[str, Any] = {"patches": pictures}
    if len(entries) > 1:
        numbers["cosines"] = {
            "mean": float(between.mean()),
            "min": float(between.min()),
            "max": float(between.max()),
        }
        drawn["cosines"] = histogram(
            between.tolist(), "cosine of two entries", "Histogram of the cosines between entries"
        )
    return Section(numbers=numbers, pictures=drawn)


def _patch(run: Run, path: str, index: int, patches: int) -> str:
    """Return a patch with its surroundings and an outline, as a data: URI."""
    picture = pixels(run, tensor_of(run, path))
    box = patch_box(index, patches, picture.width)
    size = box[2] - box[0]
    side = min((1 + 2 * CONTEXT) * size, picture.width)
    # At the border of the image the window is moved, so that all windows have the same size.
    left, top = (
        min(max(0, start - CONTEXT * size), picture.width - side) for start in (box[0], box[1])
    )
    marked = outlined(picture, [box])
    scale = marked.width // picture.width
    window = (left, top, left + side, top + side)
    return data_uri(marked.crop(tuple(scale * value for value in window)), side=72)
