"""Cache the features of an image encoder on disk (docs/feature_store.md).

The features of an image depend on the encoder's weights, its precision, the transform and the
file. These facts identify an entry, independently of seed, method and epoch.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..encode import ImageTokens
from ..learner import PromptLearner
from ..settings import SettingsError
from .array_store import ArrayStore, tensor_bytes

__all__ = ["FeatureStore", "ImageEncoder", "image_encoder_of"]

FORMAT = 1  # increase it when `trainers.encode` computes something else from the same facts
PACKAGES = ("torch", "torchvision", "pillow")  # they decode, resize and compute


class ImageEncoder(NamedTuple):
    """A function from images to features, and the modules that it depends on."""

    encode: Callable[[Tensor, bool], ImageTokens]  # images (B, 3, H, W), with local tokens or not
    visual: nn.Module  # CLIP's image encoder
    trainable_modules: Mapping[str, nn.Module]  # that ``encode`` may use besides it

    @property
    def frozen(self) -> bool:
        """Whether training does not change the features."""
        return not self.trainable_modules


def image_encoder_of(learner: PromptLearner) -> ImageEncoder:
    """Return the image encoder of a learner."""
    trained = {} if learner.frozen_image_encoder else learner.trainable_modules
    return ImageEncoder(learner.encode_image, learner.clip_model.visual, trained)


class FeatureStore:
    """The stored features of one image encoder; files below ``root`` have relative paths."""

    def __init__(
        self, store: ArrayStore, encoder: ImageEncoder, root: str, device: torch.device
    ) -> None:
        self.store = store
        self.encoder = encoder
        self.root = os.path.join(os.path.abspath(root), "")
        self.device = device
        self._opened: dict[tuple[Any, ...], ImageTokens] = {}
        self._visual = ("", "")  # versions of the image encoder's tensors, and their digest

    def features(self, loader: Any, local: bool, half: AbstractContextManager[Any]) -> ImageTokens:
        """Return the features of all images of ``loader``, row i of image i, on the CPU.

        A loader with views has that of the current epoch. ``local`` adds local tokens and saliency.
        ``half`` is the autocast context in which a run without a store encodes these images. Image
        files are checked for changes once per object.
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
            paths.update(f"{item.impath.removeprefix(self.root)}\0".encode())
            times.update(f"{status.st_size} {status.st_mtime_ns}\0".encode())
        device, first = self.device.type, next(self.encoder.visual.parameters())
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
        """Return the digest of all weights, computed again only for changed tensors."""
        visual = self.encoder.visual.state_dict()
        versions = repr([(t.data_ptr(), t._version) for t in visual.values()])
        if versions != self._visual[0]:
            self._visual = versions, digest(visual)
        if self.encoder.frozen:
            return self._visual[1]
        trained = nn.ModuleDict(self.encoder.trainable_modules).state_dict()
        return f"{self._visual[1]} {digest(trained)}"

    def _encode(self, loader: Any, view: int | None, local: bool) -> Iterator[dict[str, Tensor]]:
        """Yield the features of the images of ``loader``, in order.

        Rounding depends on the batch size, so batches have the size that a run without a store
        uses: where it drops the last, incomplete batch, that batch is completed with the first
        images.
        """
        if view is not None:
            loader.dataset.set_stream(*loader.view_stream(view))
        count, size = len(loader.dataset), loader.batch_size
        filled = -(-count // size) * size if loader.drop_last else count
        # DataLoader would draw from the global generator.
        images = DataLoader(
            loader.dataset,
            batch_size=size,
            sampler=[index % count for index in range(filled)],
            num_workers=loader.num_workers,
            pin_memory=loader.pin_memory,
            generator=torch.Generator(),
        )
        left = count
        # Stdout may be a logger without isatty, such as the original Dassl's.
        hidden = not getattr(sys.stdout, "isatty", bool)()
        with tqdm(
            total=count, desc="image features", unit="image", leave=False, disable=hidden
        ) as progress:
            for batch in images:
                tokens = self.encoder.encode(batch["img"].to(self.device), local)
                parts = tokens._asdict().items()
                yield {name: part[:left] for name, part in parts if part is not None}
                progress.update(min(left, size))
                left -= size


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 of names, types, shapes and bytes."""

    def one(name: str) -> bytes:
        tensor = tensors[name]
        content = hashlib.sha256(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        content.update(tensor_bytes(tensor))
        return content.digest()

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing releases the GIL
        return hashlib.sha256(b"".join(pool.map(one, sorted(tensors)))).hexdigest()
