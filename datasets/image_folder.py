"""ImageFolder: your own images, in one folder per class or in a list.

DATASET.ROOT is one of

    a folder with train/<class>/*, test/<class>/* and, optionally, val/<class>/*
    a folder with <class>/* and a split file split.json
    a folder with a list images.csv or images.jsonl (datasets/own_list.py)
    such a list, under any name that ends in .csv or .jsonl

This command draws a random split of class folders, or of a list without a column "split":

    python -m datasets split ROOT --seed 1

Class names are those of the folders or the list, or those that classnames.json gives them
(datasets/own_names.py).
"""

import os

from dassl.data.datasets import DATASET_REGISTRY, Datum
from dassl.utils import UsageError

from .base import SplitDataset, Splits
from .own_list import LIST_FILES, find_list, read_list_splits
from .own_names import rename_classes
from .split import PARTS, class_folders, read_classes, report_skipped, some

SPLIT_FILE = "split.json"
LIST_SUFFIXES = (".csv", ".jsonl")


@DATASET_REGISTRY.register()
class ImageFolder(SplitDataset):
    dataset_dir = "."
    image_dir = "."
    split_file = SPLIT_FILE
    images_url = "your own collection"
    mirror = ""
    list_file = ""  # DATASET.ROOT itself, or the list in that folder

    @property
    def display_name(self) -> str:
        """Name of the folder or the list, since two of your own are two datasets."""
        given = os.path.abspath(os.path.expanduser(self.root))
        if os.path.isfile(given):
            return os.path.splitext(os.path.basename(given))[0]
        return os.path.basename(self.dataset_dir) or self.name

    def prepare(self) -> None:
        """Find the list of images, if there is one."""
        self.list_file = own_list_of(self.dataset_dir)
        if self.list_file == self.dataset_dir:
            self.dataset_dir = self.image_dir = os.path.dirname(self.list_file)

    def read_splits(self) -> Splits:
        splits = read_list_splits(self.list_file) if self.list_file else self._folder_splits()
        return rename_classes(splits, self.image_dir)

    def _folder_splits(self) -> Splits:
        if os.path.isfile(os.path.join(self.dataset_dir, SPLIT_FILE)):
            return super().read_splits()
        self.require_folder(self.image_dir)
        folders = class_folders(self.image_dir)
        if not {"train", "test"} <= set(folders):
            raise UsageError(
                f"{self.name}: {self.image_dir} has neither a split file {SPLIT_FILE}, a list "
                f"{' or '.join(LIST_FILES)}, nor folders "
                f"train/ and test/ (it has {', '.join(folders[:5]) or 'no folders'}). To split "
                f"class folders at random: python -m datasets {self.image_dir}"
            )
        classes = class_folders(os.path.join(self.image_dir, "train"))
        if not classes:
            raise UsageError(
                f"{self.name}: {self.image_dir}/train has no class folders: put the training "
                "images of each class into a folder named by the class"
            )
        return {part: self._read_part(part, classes) for part in PARTS if part in folders}

    def _read_part(self, part: str, classes: list[str]) -> list[Datum]:
        folder = os.path.join(self.image_dir, part)
        names = class_folders(folder)
        unknown = [name for name in names if name not in classes]
        if unknown:
            raise UsageError(
                f"{self.name}: {folder} has classes missing in train/: {some(unknown)}: add "
                "training images of them, or remove these folders"
            )
        absent = [name for name in classes if name not in names]
        if absent:
            print(
                f"warning: {folder} has no folders of {len(absent)} of the {len(classes)} classes "
                f"in train/ ({some(absent)}): they are not measured"
            )
        report_skipped(folder)
        return read_classes(folder, [(name, classes.index(name), name) for name in names])


def own_list_of(root: str) -> str:
    """Return the list that ``root`` is or contains, "" if there is none.

    Raises:
        UsageError: ``root`` is another file, or contains a list and a split of class folders.
    """
    if os.path.isfile(root):
        if not root.lower().endswith(LIST_SUFFIXES):
            raise UsageError(
                f"DATASET.ROOT (--root) is the file {root}: set it to a folder, or to a list of "
                "images in a .csv or .jsonl file"
            )
        return root
    found = find_list(root)
    if found and os.path.isfile(os.path.join(root, SPLIT_FILE)):
        raise UsageError(
            f"{root} has both {os.path.basename(found)} and {SPLIT_FILE}: remove or rename the one "
            "that is not to be used"
        )
    return found
