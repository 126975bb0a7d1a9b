"""Replace a trainer's images by stored features (DATALOADER.FEATURE_STORE)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from dassl.data import DatasetWrapper

from ..encode import ImageTokens
from .array_store import ArrayStore
from .features import FeatureStore, ImageEncoder

__all__ = ["StoredLoader", "store_beside_images", "use_feature_store"]

KEY = "DATALOADER.FEATURE_STORE"


class StoredLoader:
    """The batches of a loader with `ImageTokens` in place of the images, which are not read.

    ``features`` is called when a pass starts and returns row i for image i. Where ``enabled`` is
    False, the batches are the loader's own, as are all other attributes.
    """

    def __init__(self, loader: Any, features: Callable[[], ImageTokens]) -> None:
        self.loader = loader
        self.features = features
        self.enabled = True

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self.enabled:
            return iter(self.loader)
        tokens = self.features()
        # The original Dassl's loaders have a batch sampler, which draws nothing at test.
        order = self.loader.order() if hasattr(self.loader, "order") else self.loader.batch_sampler
        return (self._batch(tokens, indices) for indices in order)

    def _batch(self, tokens: ImageTokens, indices: Sequence[int]) -> dict[str, Any]:
        items = [self.loader.dataset.data_source[index] for index in indices]
        rows = torch.tensor(indices)
        return {
            "img": tokens.each(lambda part: part[rows]),
            "label": torch.tensor([item.label for item in items]),
            "domain": torch.tensor([item.domain for item in items]),
            "impath": [item.impath for item in items],
            "index": rows,
        }


class AnnotatedLoader(StoredLoader):
    """The batches of a loader, and pooled features (B, d) of their images under ``key``."""

    def __init__(self, loader: Any, features: Callable[[], ImageTokens], key: str) -> None:
        super().__init__(loader, features)
        self.key = key

    def __iter__(self) -> Iterator[dict[str, Any]]:
        pooled = self.features().pooled
        return ({**batch, self.key: pooled[batch["index"]]} for batch in self.loader)


def open_store(trainer: Any, encoder: ImageEncoder) -> FeatureStore | None:
    """Return the trainer's feature store, or None if there is none or it cannot be used."""
    folder = trainer.cfg.DATALOADER.get("FEATURE_STORE", "")  # the original has no such key
    if not folder:
        return None
    for loader in (trainer.train_loader_x, trainer.val_loader, trainer.test_loader):
        if loader is not None and (reason := _why_unusable(loader.dataset)):
            print(f"Feature store: {KEY} {folder} is not used because {reason}")
            return None
    root = trainer.cfg.DATASET.ROOT
    return FeatureStore(ArrayStore(folder, KEY), encoder, root, trainer.device)


def use_feature_store(trainer: Any, encoder: ImageEncoder, local: bool) -> None:
    """Replace a trainer's loaders by stored ones where possible, and log which.

    ``local`` states whether training uses local tokens.
    """
    store = open_store(trainer, encoder)
    if store is None:
        return

    def stored(loader: Any) -> StoredLoader:
        return StoredLoader(loader, lambda: store.features(loader, False, nullcontext()))

    trainer.test_loader = stored(trainer.test_loader)
    if trainer.val_loader is not None:
        trainer.val_loader = stored(trainer.val_loader)

    train = trainer.train_loader_x
    views = getattr(train, "views", 0)
    if encoder.frozen and views:
        trainer.train_loader_x = StoredLoader(
            train, lambda: store.features(train, local, trainer.autocast())
        )
    print(f"Feature store {store.store.folder}: {_describe(trainer, encoder, views)}")


def enable_stored_tests(trainer: Any, enabled: bool) -> None:
    """Switch the stored features of a trainer's tests on or off."""
    for loader in (trainer.val_loader, trainer.test_loader):
        if isinstance(loader, StoredLoader):
            loader.enabled = enabled


def store_beside_images(trainer: Any, encoder: ImageEncoder, key: str, name: str) -> None:
    """Add stored features of another, frozen model to a trainer's training batches.

    This applies only where images repeat: without augmentation, or with DATALOADER.VIEWS. ``key``
    names the features in a batch, and ``name`` the other model in the log.
    """
    train = trainer.train_loader_x
    if not getattr(train, "views", 0) or (store := open_store(trainer, encoder)) is None:
        return
    trainer.train_loader_x = AnnotatedLoader(
        train, lambda: store.features(train, False, trainer.autocast()), key
    )
    print(
        f"Feature store {store.store.folder}: used for the {name}'s features of training images "
        f"({_views(train.views)})"
    )


def _views(count: int) -> str:
    return f"{count} view{'s' if count > 1 else ''} per image"


def _describe(trainer: Any, encoder: ImageEncoder, views: int) -> str:
    if not encoder.frozen:
        return (
            f"used to test a finished model; {type(trainer).__name__} trains its image encoder, so "
            "training and the selection of an epoch read the images"
        )
    if not views:
        return (
            "used to test; training images are augmented differently in every epoch and are read "
            "(DATALOADER.VIEWS n stores n augmented views of each)"
        )
    return f"used to test and to train ({_views(views)})"


def _why_unusable(dataset: Any) -> str:
    """Return why images are not determined by file and transform, or "" if they are."""
    if type(dataset) is not DatasetWrapper:
        return f"{type(dataset).__name__} reads images in its own way"
    transform = repr(dataset.transform)
    if " at 0x" in transform or "Lambda(" in transform:
        return f"the settings of a transform are unknown ({' '.join(transform.split())})"
    return ""
