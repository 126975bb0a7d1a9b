"""ImageNet (ILSVRC 2012): 1,000 classes, tested on the official validation images.

Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015. The images need a
login at https://image-net.org. Layout: images/train/<WordNet id>/*.JPEG, images/val/<WordNet
id>/*.JPEG and classnames.txt with lines like "n01440764 tench".

The original samples shots in the order in which the file system lists the folders, and saves
that order in preprocessed.pkl. If that file exists and fits the images, its order is used, so that
the same seed gives the same shots; otherwise images are sorted by name.
"""

import os
from collections.abc import Sequence

from dassl.data.datasets import DATASET_REGISTRY, Datum
from dassl.utils import UsageError

from .base import Counts, SplitDataset, Splits
from .cache import find_images, load_pickle
from .split import class_folders, read_classes
from .text import read_lines

CLASSNAMES_URL = "https://drive.google.com/file/d/1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF"
VALPREP_URL = (
    "python -m datasets fetch imagenet, or with valprep.sh of "
    "https://github.com/soumith/imagenetloader.torch"
)


class ClassFolderDataset(SplitDataset):
    """Class folders named by WordNet ids, with class names in classnames.txt."""

    @staticmethod
    def read_classnames(text_file: str) -> dict[str, str]:
        """Return {WordNet id: class name} in the order of the file."""
        pairs = (line.partition(" ") for line in read_lines(text_file))
        return {wnid: name for wnid, _, name in pairs}

    def classnames_by_id(self) -> dict[str, str]:
        """Read classnames.txt in ``dataset_dir``; raise a UsageError if it is missing."""
        path = os.path.join(self.dataset_dir, "classnames.txt")
        self.require_file(path, CLASSNAMES_URL)
        return self.read_classnames(path)

    def read_class_folders(self, folder: str) -> list[Datum]:
        """Return the images of all class folders; labels follow the sorted WordNet ids."""
        self.require_folder(folder)
        names = self.classnames_by_id()
        wnids = class_folders(folder)
        unknown = [wnid for wnid in wnids if wnid not in names]
        if unknown:
            raise UsageError(
                f"{self.name}: classnames.txt has no name for {len(unknown):,} of the folders in "
                f"{folder} ({', '.join(unknown[:3])}): get it again from {CLASSNAMES_URL}, or "
                "remove those folders"
            )
        return read_classes(
            folder, [(wnid, label, names[wnid]) for label, wnid in enumerate(wnids)]
        )


class ShiftedImageNet(ClassFolderDataset):
    """A shifted test set for models trained on ImageNet, with accuracy over its own classes."""

    def read_splits(self) -> Splits:
        return {"test": self.read_class_folders(self.image_dir)}


@DATASET_REGISTRY.register()
class ImageNet(ClassFolderDataset):
    dataset_dir = "imagenet"
    image_dir = "images"
    images_url = "https://image-net.org (login)"
    mirror = ""
    counts = Counts(classes=1000, train=1_281_167, test=50_000)

    @property
    def val(self) -> Sequence[Datum] | None:
        """The test images, as in the original; do not select a model on them."""
        return self._val or self.test

    def read_splits(self) -> Splits:
        train_dir, val_dir = (os.path.join(self.image_dir, part) for part in ("train", "val"))
        self.require_folder(train_dir)
        self.require_folder(val_dir)
        files = [name for name in os.listdir(val_dir) if name.lower().endswith(".jpeg")]
        if files:
            raise UsageError(
                f"{self.name}: {len(files):,} images are directly in {val_dir}, as the official "
                f"archive unpacks them ({min(files)}): they must be in class folders like those "
                f"of images/train; sort them with {VALPREP_URL}"
            )
        differing = set(class_folders(train_dir)) ^ set(class_folders(val_dir))
        if differing:
            raise UsageError(
                f"{self.name}: {len(differing)} class folders are in only one of {train_dir} and "
                f"{val_dir} ({', '.join(sorted(differing)[:3])}): labels would differ; unpack again"
            )
        train = self.read_class_folders(train_dir)
        return {"train": train, "test": self.read_class_folders(val_dir)}

    def sampling_order(self, items: list[Datum]) -> list[Datum]:
        """Return the images in the order of preprocessed.pkl if it fits, else sorted by name."""
        path = os.path.join(self.dataset_dir, "preprocessed.pkl")
        if not os.path.exists(path):
            return items
        try:
            # Its list of test images may be as long.
            cached = load_pickle(path, 2 * len(items))
            ordered = find_images(cached.get("train", []), items, self.image_dir)
            if len(ordered) != len(items):
                raise LookupError(f"it names {len(ordered):,} of {len(items):,} training images")
        except LookupError as error:
            print(f"{path} is stale and not used ({error}): sampling shots from sorted images")
            return items
        print(f"Sampling from the training images in the order of {path}")
        return ordered
