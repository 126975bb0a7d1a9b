"""ImageFolder: your own images, in one folder per class.

DATASET.ROOT is the folder itself, and class names are the names of the class folders. Either

    ROOT/train/<class>/*, ROOT/test/<class>/* and, optionally, ROOT/val/<class>/*

or ROOT/<class>/* with a split file ROOT/split.json. This command writes a random one:

    python -m datasets ROOT --seed 1
"""

import os

from dassl.data.datasets import DATASET_REGISTRY, Datum
from dassl.utils import UsageError

from .base import SplitDataset, Splits
from .split import PARTS, class_folders, read_classes, report_skipped, some

SPLIT_FILE = "split.json"


@DATASET_REGISTRY.register()
class ImageFolder(SplitDataset):
    dataset_dir = "."
    image_dir = "."
    split_file = SPLIT_FILE
    images_url = "your own collection"
    mirror = ""

    @property
    def display_name(self) -> str:
        """Name of the folder, since two folders of your own are two datasets."""
        return os.path.basename(self.dataset_dir) or self.name

    def read_splits(self) -> Splits:
        if os.path.isfile(os.path.join(self.dataset_dir, SPLIT_FILE)):
            return super().read_splits()
        self.require_folder(self.image_dir)
        folders = class_folders(self.image_dir)
        if not {"train", "test"} <= set(folders):
            raise UsageError(
                f"{self.name}: {self.image_dir} has neither a split file {SPLIT_FILE} nor folders "
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
