"""Cache the features of a frozen image encoder on disk (docs/feature_store.md).

The features of an image are a function of the encoder's weights, its precision, the transform and
the file. These facts identify a stored entry, whatever the seed, the method and the epoch.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import wraps
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..encode import ImageTokens
from ..settings import SettingsError
from .array_store import ArrayStore, tensor_bytes

__all__ = ["FeatureStore", "ImageEncoder", "frozen_tower", "image_encoder_of"]

FORMAT = 1  # raise it when `trainers.encode` computes something else from the same facts
PACKAGES = ("torch", "torchvision", "pillow")  # decode, resize and compute, each in its own way

Encode = Callable[[Tensor, bool], ImageTokens]


def frozen_tower(encode: Callable[..., ImageTokens]) -> Callable[..., ImageTokens]:
    """Mark a learner's ``encode_image``: its result depends on ``clip_model.visual`` alone.

    It runs without autograd. A subclass that overrides the method loses the mark with it, so that
    features of its own are never taken for the tower's.
    """

    @wraps(encode)
    def run(*args: Any, **kwargs: Any) -> ImageTokens:
        with torch.no_grad():
            return encode(*args, **kwargs)

    run.frozen = True  # type: ignore[attr-defined]
    return run


class ImageEncoder(NamedTuple):
    """From images to features, and all that the result depends on.

    encode: (images (B, 3, H, W), whether local tokens are wanted) -> `ImageTokens`.
    visual: the vision tower.
    trainable_modules: trained modules that ``encode`` may use besides the vision tower.
    """

    encode: Encode
    visual: nn.Module
    trainable_modules: Mapping[str, nn.Module]

    @property
    def frozen(self) -> bool:
        """Whether training leaves the features alone."""
        return not self.trainable_modules


def image_encoder_of(learner: Any) -> ImageEncoder:
    """The image path of a `trainers.prompting.contexts.PromptLearner`."""
    frozen = getattr(learner.encode_image, "frozen", False)
    trained = {} if frozen else learner.trainable_modules
    return ImageEncoder(learner.encode_image, learner.clip_model.visual, trained)


class FeatureStore:
    """The features of one image path, on disk.

    Args:
        store: the folder.
        path: from images to features.
        root: cfg.DATASET.ROOT; files below it are known by their paths from there.
        device: where the path runs.
    """

    def __init__(
        self, store: ArrayStore, path: ImageEncoder, root: str, device: torch.device
    ) -> None:
        self.store = store
        self.path = path
        self.root = os.path.join(os.path.abspath(root), "")
        self.device = device
        self._opened: dict[tuple[Any, ...], ImageTokens] = {}
        self._tower = ("", "")  # marks of the tower's tensors, and their digest

    def features(self, loader: Any, local: bool, half: AbstractContextManager[Any]) -> ImageTokens:
        """What the path says of every image of ``loader``, row i of image i, on the CPU.

        Files are looked at once in the life of this object.

        Args:
            loader: of Dassl; the view that its epoch shows is meant.
            local: with local tokens and saliency.
            half: the autocast context in which an unstored run encodes these images.
        """
        view = loader.view if getattr(loader, "augmented", False) else None
        with torch.no_grad(), half:
            weights = self._weights()
            opened = (id(loader), view, local, weights)
            if opened not in self._opened:
                facts = self._facts(loader, view, local, weights)
                count = len(loader.dataset)
                arrays = self.store.get(facts, count, lambda: self._encode(loader, view, local))
                self._opened[opened] = ImageTokens(**arrays)
        return self._opened[opened]

    def _facts(self, loader: Any, view: int | None, local: bool, weights: str) -> dict[str, Any]:
        paths, times = hashlib.sha256(), hashlib.sha256()
        for item in loader.dataset.data_source:
            try:
                status = os.stat(item.impath)
            except OSError as error:
                raise SettingsError(f"there is no image at {item.impath}: {error}") from error
            known = item.impath.removeprefix(self.root)
            paths.update(f"{known}\0".encode())
            times.update(f"{status.st_size} {status.st_mtime_ns}\0".encode())
        device, first = self.device.type, next(self.path.visual.parameters())
        autocast = torch.is_autocast_enabled(device)
        return {
            "what": "token" if local else "image",
            "format": FORMAT,
            "weights": weights,
            "dtype": str(torch.get_autocast_dtype(device) if autocast else first.dtype),
            "autocast": autocast,
            "device": device,
            "matmul": torch.get_float32_matmul_precision(),
            "transform": repr(loader.dataset.transform),
            "view": "the only one" if view is None else str(loader.view_stream(view)),
            "images": len(loader.dataset),
            "paths": paths.hexdigest(),
            "times": times.hexdigest(),
            "versions": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        }

    def _weights(self) -> str:
        """Digest of all tensors that decide the features; the tower's is kept while it stands."""
        tower = self.path.visual.state_dict()
        marks = repr([(t.data_ptr(), t._version) for t in tower.values()])
        if marks != self._tower[0]:
            self._tower = marks, digest(tower)
        if self.path.frozen:
            return self._tower[1]
        states = {name: module.state_dict() for name, module in self.path.trainable_modules.items()}
        trained = {f"{name}.{k}": t for name, state in states.items() for k, t in state.items()}
        return f"{self._tower[1]} {digest(trained)}"

    def _encode(self, loader: Any, view: int | None, local: bool) -> Iterator[dict[str, Tensor]]:
        """Read and encode the images of ``loader``, in order.

        In batches of the size that an unstored run encodes, because rounding depends on it: where
        that run drops the last, incomplete batch, it is filled up with images from the start.
        """
        if view is not None:
            loader.dataset.set_stream(*loader.view_stream(view))
        count, size = len(loader.dataset), loader.batch_size
        filled = -(-count // size) * size if loader.drop_last else count
        # Its own generator: DataLoader would draw from the global one.
        images = DataLoader(
            loader.dataset,
            batch_size=size,
            sampler=[index % count for index in range(filled)],
            num_workers=loader.num_workers,
            pin_memory=loader.pin_memory,
            generator=torch.Generator(),
        )
        left = count
        with bar(count, "image features") as progress:
            for batch in images:
                tokens = self.path.encode(batch["img"].to(self.device), local)
                parts = tokens._asdict().items()
                yield {name: part[:left] for name, part in parts if part is not None}
                progress.update(min(left, size))
                left -= size


def bar(total: int, title: str) -> Any:
    """A progress bar with rate and time left on stderr, only where stdout is a terminal."""
    shown = sys.stdout.isatty()
    return tqdm(total=total, desc=title, unit="image", leave=False, disable=not shown)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes."""

    def one(name: str) -> bytes:
        tensor = tensors[name]
        content = hashlib.sha256(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        content.update(tensor_bytes(tensor))
        return content.digest()

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing lets go of the GIL
        return hashlib.sha256(b"".join(pool.map(one, sorted(tensors)))).hexdigest()
