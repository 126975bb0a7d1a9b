"""Build the loaders of a config.

What a loader yields is a function of (seed, epoch, image) alone: the order comes from a generator
owned by the loader, and the augmentations of an image from one seeded for that image. So the number
of workers, evaluations and interruptions do not change the training, and iterating does not use the
global random generators. With DATALOADER.VIEWS n the augmentations are those of epoch modulo n, so
every image has n views.
"""

from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any, cast

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms import Compose, Normalize, Resize, ToTensor
from yacs.config import CfgNode

from dassl.config import complete
from dassl.utils import UsageError, distributed, read_image
from dassl.utils.images import require_readable
from dassl.utils.random_state import derive_seed, seeded

from .datasets import DatasetBase, Datum, build_dataset
from .samplers import BatchSlices, BatchTurns, build_sampler
from .transforms import INTERPOLATION_MODES as INTERPOLATION_MODES  # also imported from here
from .transforms import build_transform, interpolation_mode, is_random

Transform = Callable[[Any], Any]
Transforms = Transform | Sequence[Transform] | None
Wrapper = Callable[..., Dataset[dict[str, Any]]]

CHECKED_IMAGES = 2000  # images that are decoded before a run starts; about a second for JPEG files


class DatasetWrapper(Dataset[dict[str, Any]]):
    """Dataset that reads and transforms the images of a list of :class:`Datum`.

    An item is a dict: ``img`` (the output of the transform: a tensor (3, H, W)), ``label``,
    ``domain``, ``impath`` and ``index``. Further views of the image:

    - a list of transforms gives ``img``, ``img2``, ``img3``, ...;
    - DATALOADER.K_TRANSFORMS > 1 makes each of them a list of that many samples (training only);
    - DATALOADER.RETURN_IMG0 adds ``img0``, the image resized to INPUT.SIZE without augmentation.
    """

    def __init__(
        self,
        cfg: CfgNode,
        data_source: Sequence[Datum],
        transform: Transforms = None,
        is_train: bool = False,
    ) -> None:
        cfg = complete(cfg)
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        if self.k_tfm > 1 and transform is None:
            raise UsageError(
                f"DATALOADER.K_TRANSFORMS is {self.k_tfm}, but there is no transform to repeat: "
                "set it to 1, or INPUT.NO_TRANSFORM to False"
            )
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        steps = [Resize(cfg.INPUT.SIZE, interpolation=interpolation_mode(cfg)), ToTensor()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            steps.append(Normalize(mean=cfg.INPUT.PIXEL_MEAN, std=cfg.INPUT.PIXEL_STD))
        self.to_tensor = Compose(steps)
        self.stream: tuple[int, ...] = (loader_seed(cfg),)

    def set_stream(self, *stream: int) -> None:
        """Seed the augmentations of each image with (``stream``, index of the image)."""
        self.stream = stream

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        item = self.data_source[idx]
        image = read_image(item.impath)
        output = {"label": item.label, "domain": item.domain, "impath": item.impath, "index": idx}
        with seeded(*self.stream, idx % len(self)):
            output.update(self._views(image))
        if self.return_img0:
            output["img0"] = self.to_tensor(image)
        return output

    def _views(self, image: Any) -> dict[str, Any]:
        if self.transform is None:
            return {"img": image}
        transforms = self.transform if isinstance(self.transform, Sequence) else [self.transform]
        views = {}
        for number, transform in enumerate(transforms, start=1):
            samples = [transform(image) for _ in range(self.k_tfm)]
            views["img" if number == 1 else f"img{number}"] = (
                samples if self.k_tfm > 1 else samples[0]
            )
        return views


def collate(items: list[Any]) -> Any:
    """Return a batch of the items of a dataset, as a DataLoader does.

    Raises:
        UsageError: the images are not tensors.
    """
    if isinstance(items[0], dict) and isinstance(items[0].get("img"), Image.Image):
        raise UsageError(
            "a batch consists of tensors, but no transform makes tensors of the images: set "
            "INPUT.NO_TRANSFORM to False, or end your own transform with ToTensor"
        )
    return default_collate(items)


def loader_seed(cfg: CfgNode) -> int:
    """Return the seed of order and augmentations: cfg.SEED, or torch's if that is negative."""
    return cfg.SEED if cfg.SEED >= 0 else torch.initial_seed()


class EpochLoader(DataLoader[dict[str, Any]]):
    """DataLoader with batches that depend on (seed, epoch, number of earlier passes in this epoch).

    ``augmented`` is True if images are augmented at random. With n ``views`` of each image, epoch
    e has the augmentations of epoch e mod n in another order; with 0 every epoch samples new
    ones. ``seed`` is that of order and augmentations.
    """

    def __init__(
        self,
        dataset: Dataset[dict[str, Any]],
        seed: int,
        augmented: bool = False,
        views: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(dataset, **kwargs)
        self.seed = seed
        self.augmented = augmented
        self.views = views if augmented else 1
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.passes = 0

    def __iter__(self) -> Any:
        stream = self._begin_pass()
        # A trainer's own dataset may lack set_stream: its workers are seeded by the loader's
        # generator, but its augmentations then depend on the number of workers.
        if hasattr(self.dataset, "set_stream"):
            repeated = self.augmented and self.views
            self.dataset.set_stream(*(self.view_stream(self.view) if repeated else stream))
        return super().__iter__()

    def order(self) -> Iterator[list[int]]:
        """Yield the indices of the batches of the next pass, instead of that pass."""
        self._begin_pass()
        positions: Any = range(len(cast(Sized, self.dataset)))
        # A DataLoader uses the generator in the same way as `__iter__`.
        return iter(
            DataLoader(
                positions,
                batch_sampler=self.batch_sampler,
                collate_fn=list,
                generator=self.generator,
            )
        )

    @property
    def view(self) -> int:
        """Index of this epoch's view."""
        return self.epoch % self.views

    def view_stream(self, view: int) -> tuple[int, int, int]:
        """Return the arguments of `set_stream` for a view."""
        return self.seed, view, 0

    def _begin_pass(self) -> tuple[int, int, int]:
        stream = (self.seed, self.epoch, self.passes)
        self.passes += 1
        self.generator.manual_seed(derive_seed(*stream))
        return stream


def build_data_loader(
    cfg: CfgNode,
    sampler_type: str = "SequentialSampler",
    data_source: Sequence[Datum] | None = None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm: Transforms = None,
    is_train: bool = True,
    dataset_wrapper: Wrapper | None = None,
) -> EpochLoader:
    """Build a loader of ``data_source``.

    In training the last incomplete batch is dropped, unless it is the only one. With several
    processes, each gets a slice of every training batch, and every N-th test batch.

    Raises:
        UsageError: no images, an unknown sampler, or batches that the data cannot fill.
    """
    cfg = complete(cfg)
    if not data_source:
        raise UsageError(f"there are no {'training' if is_train else 'test'} images to load")
    generator = torch.Generator()
    sampler = build_sampler(
        sampler_type, cfg, data_source, batch_size, n_domain, n_ins, generator=generator
    )
    drop_last = is_train and len(data_source) >= batch_size
    rank, count = distributed.rank(), distributed.world_size()
    if count > 1 and is_train:
        whole = min(batch_size, len(data_source))
        sampler, batch_size = BatchSlices(sampler, whole, rank, count), max(1, whole // count)
    elif count > 1:
        sampler = BatchTurns(sampler, batch_size, rank, count)
    dataset = (dataset_wrapper or DatasetWrapper)(cfg, data_source, transform=tfm, is_train=is_train)
    views = cfg.DATALOADER.VIEWS if is_train else 0
    if views and not hasattr(dataset, "set_stream"):
        raise UsageError(
            f"DATALOADER.VIEWS is {views}, but {type(dataset).__name__} has no set_stream method, "
            "so its augmentations cannot be repeated: set it to 0"
        )
    return EpochLoader(
        dataset,
        seed=loader_seed(cfg),
        augmented=is_random(tfm),
        views=views,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        drop_last=drop_last,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
        generator=generator,
    )


class DataManager:
    """The dataset of a config and its loaders.

    Attributes:
        dataset: the dataset.
        train_loader_x, train_loader_u, val_loader, test_loader: the loaders; ``train_loader_u``
            and ``val_loader`` are None if the dataset has no such images.
        num_classes, num_source_domains, lab2cname: properties of the dataset.
    """

    def __init__(
        self,
        cfg: CfgNode,
        custom_tfm_train: Transforms = None,
        custom_tfm_test: Transforms = None,
        dataset_wrapper: Wrapper | None = None,
    ) -> None:
        cfg = complete(cfg)
        self.dataset: DatasetBase = build_dataset(cfg)
        self.num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        self.num_classes = self.dataset.num_classes
        self.lab2cname = self.dataset.lab2cname

        tfm_train = _choose_transform(cfg, custom_tfm_train, is_train=True)
        tfm_test = _choose_transform(cfg, custom_tfm_test, is_train=False)

        def build(
            settings: CfgNode, images: Sequence[Datum] | None, is_train: bool
        ) -> EpochLoader:
            return build_data_loader(
                cfg,
                sampler_type=settings.SAMPLER,
                data_source=images,
                batch_size=settings.BATCH_SIZE,
                n_domain=settings.get("N_DOMAIN", 0),  # only in training
                n_ins=settings.get("N_INS", 2),
                tfm=tfm_train if is_train else tfm_test,
                is_train=is_train,
                dataset_wrapper=dataset_wrapper,
            )

        data, loaders = self.dataset, cfg.DATALOADER
        self.train_loader_x = build(loaders.TRAIN_X, data.train_x, True)
        self.train_loader_u: EpochLoader | None = None
        if data.train_u:
            unlabeled = loaders.TRAIN_X if loaders.TRAIN_U.SAME_AS_X else loaders.TRAIN_U
            self.train_loader_u = build(unlabeled, data.train_u, True)
        self.val_loader = build(loaders.TEST, data.val, False) if data.val else None
        self.test_loader = build(loaders.TEST, data.test, False)
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)
        # Another wrapper reads the files in its own way.
        if dataset_wrapper is None and not data.trusted_images and distributed.is_main():
            check_images(data)

    def set_epoch(self, epoch: int) -> None:
        """Make all loaders yield the batches of ``epoch`` (counted from 0)."""
        for loader in (self.train_loader_x, self.train_loader_u, self.val_loader, self.test_loader):
            if loader is not None:
                loader.set_epoch(epoch)

    def show_dataset_summary(self, cfg: CfgNode) -> None:
        """Print the sizes of the dataset."""
        rows = {"Dataset": self.dataset.display_name}
        if cfg.DATASET.SOURCE_DOMAINS:
            rows["Source"] = ", ".join(cfg.DATASET.SOURCE_DOMAINS)
        if cfg.DATASET.TARGET_DOMAINS:
            rows["Target"] = ", ".join(cfg.DATASET.TARGET_DOMAINS)
        rows["# classes"] = f"{self.num_classes:,}"
        for name in ("train_x", "train_u", "val", "test"):
            if images := getattr(self.dataset, name):
                rows[f"# {name}"] = f"{len(images):,}"
        width = max(map(len, rows))
        rule = "-" * width + "  " + "-" * max(map(len, rows.values()))
        print(rule, *(f"{name:<{width}}  {value}" for name, value in rows.items()), rule, sep="\n")


def check_images(dataset: DatasetBase) -> None:
    """Raise a UsageError if an image cannot be read: now, and not in the middle of a training.

    Of more than CHECKED_IMAGES images, as many are read at even distances in the lists. Nothing
    random is involved.
    """
    parts = (dataset.train_x, dataset.train_u, dataset.val, dataset.test)
    paths = list(dict.fromkeys(item.impath for part in parts if part for item in part))
    count = min(len(paths), CHECKED_IMAGES)
    require_readable([paths[i * len(paths) // count] for i in range(count)])


def _choose_transform(cfg: CfgNode, custom: Transforms, is_train: bool) -> Transforms:
    if custom is None:
        return build_transform(cfg, is_train=is_train)
    print(f"* Using custom transform for {'training' if is_train else 'testing'}")
    return custom
