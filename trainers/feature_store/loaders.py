"""Stored features in the place of a trainer's images: DATALOADER.FEATURE_STORE."""

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
    """The batches of a loader with `ImageTokens` in the place of their images.

    Args:
        loader: of Dassl; it is asked for the order alone, and no image is read. All else that is
            asked of this object is answered by it.
        features: gives row i of image i, when a pass begins; None: the loader runs as it is.

    Attributes:
        used: whether the newest pass took stored features.
    """

    def __init__(self, loader: Any, features: Callable[[], ImageTokens | None]) -> None:
        self.loader = loader
        self.features = features
        self.used = False

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        tokens = self.features()
        self.used = tokens is not None
        if tokens is None:
            return iter(self.loader)
        # The original Dassl's loaders go by their sampler, which at test draws nothing.
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
    """The batches of a loader, and under ``key`` pooled features (B, d) of their images.

    Args:
        loader, features: as of `StoredLoader`; the images are read.
        key: of a batch.
    """

    def __init__(self, loader: Any, features: Callable[[], ImageTokens | None], key: str) -> None:
        super().__init__(loader, features)
        self.key = key

    def __iter__(self) -> Iterator[dict[str, Any]]:
        tokens = self.features()
        assert tokens is not None
        return ({**batch, self.key: tokens.pooled[batch["index"]]} for batch in self.loader)


def open_store(trainer: Any, path: ImageEncoder) -> FeatureStore | None:
    """The feature store of a trainer for one image path; None where the config names none.

    Where the images cannot be known by their files and transforms, it is None, too, and said.
    """
    folder = trainer.cfg.DATALOADER.get("FEATURE_STORE", "")  # the original has no such key
    if not folder:
        return None
    for loader in (trainer.train_loader_x, trainer.val_loader, trainer.test_loader):
        if loader is not None and (reason := _why_unusable(loader.dataset)):
            print(f"Feature store: {KEY} {folder} is not used, because {reason}")
            return None
    store = ArrayStore(folder, KEY)
    return FeatureStore(store, path, trainer.cfg.DATASET.ROOT, trainer.device)


def use_feature_store(trainer: Any, path: ImageEncoder, local: bool) -> None:
    """Let a trainer's loaders yield stored features where they can, and say where.

    Args:
        trainer: has loaders and a device; `autocast` and `selecting` where it trains.
        path: its images' way to features.
        local: whether training looks at local tokens.
    """
    store = open_store(trainer, path)
    if store is None:
        return

    def at_test(loader: Any) -> StoredLoader:
        def features() -> ImageTokens | None:
            # What a model of a moment says of images is not asked for again.
            if not path.frozen and trainer.selecting:
                return None
            return store.features(loader, False, nullcontext())

        return StoredLoader(loader, features)

    trainer.test_loader = at_test(trainer.test_loader)
    if trainer.val_loader is not None:
        trainer.val_loader = at_test(trainer.val_loader)

    train = trainer.train_loader_x
    views = getattr(train, "views", 0)
    if path.frozen and views:
        trainer.train_loader_x = StoredLoader(
            train, lambda: store.features(train, local, trainer.autocast())
        )
    print(f"Feature store {store.store.folder}: {_describe(trainer, path, views)}")


def store_beside_images(trainer: Any, path: ImageEncoder, key: str) -> None:
    """Put stored features of another, frozen model beside a trainer's training images.

    Only where images repeat: without augmentation, or with DATALOADER.VIEWS.

    Args:
        trainer: has a training loader, a device and `autocast`.
        path: the other model's; its trained modules stand still.
        key: of a batch, under which they come.
    """
    train = trainer.train_loader_x
    if not getattr(train, "views", 0) or (store := open_store(trainer, path)) is None:
        return
    trainer.train_loader_x = AnnotatedLoader(
        train, lambda: store.features(train, False, trainer.autocast()), key
    )
    print(
        f"Feature store {store.store.folder}: used for the {key}'s features of training images "
        f"({train.views} view{'s' if train.views > 1 else ''} of each)"
    )


def _describe(trainer: Any, path: ImageEncoder, views: int) -> str:
    """What is taken from the store and what is not, for the log."""
    name = type(trainer).__name__
    if not path.frozen:
        return (
            f"used to test a finished model; {name} trains its image path, so training and the "
            "selection of an epoch read the images"
        )
    if not views:
        return (
            "used to test; training images are augmented anew in every epoch and are read "
            "(DATALOADER.VIEWS n has n augmented views of each stored)"
        )
    return f"used to test and to train ({views} view{'s' if views > 1 else ''} of each image)"


def _why_unusable(dataset: Any) -> str:
    """Why images cannot be known by file and transform; "" if they can."""
    if type(dataset) is not DatasetWrapper:
        return f"{type(dataset).__name__} reads the images in its own way"
    said = repr(dataset.transform)
    if " at 0x" in said or "Lambda(" in said:
        return f"a transform does not tell its settings ({' '.join(said.split())})"
    return ""
