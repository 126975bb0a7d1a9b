"""ImageNetV2 (matched frequency): 10,000 new photographs of the 1,000 ImageNet classes; test only.

Recht et al., Do ImageNet Classifiers Generalize to ImageNet?, ICML 2019,
https://github.com/modestyachts/ImageNetV2. Put ImageNet's classnames.txt into imagenetv2/. Class
folders are numbered 0 to 999, in the order of the sorted WordNet ids, or named by the ids
themselves.
"""

import re

from dassl.data.datasets import DATASET_REGISTRY, Datum
from dassl.utils import UsageError

from .base import Counts
from .imagenet import ShiftedImageNet
from .split import class_folders, read_classes


@DATASET_REGISTRY.register()
class ImageNetV2(ShiftedImageNet):
    dataset_dir = "imagenetv2"
    image_dir = "imagenetv2-matched-frequency-format-val"
    images_url = "https://huggingface.co/datasets/vaishaal/ImageNetV2"
    counts = Counts(classes=1000, test=10_000)

    def read_class_folders(self, folder: str) -> list[Datum]:
        self.require_folder(folder)
        folders = class_folders(folder)
        if not all(re.fullmatch("[0-9]+", name) for name in folders):
            return super().read_class_folders(folder)
        names = self.classnames_by_id()
        wnids = sorted(names)
        if set(folders) != {str(label) for label in range(len(wnids))}:
            raise UsageError(
                f"{self.name}: {folder} has {len(folders):,} numbered class folders, but "
                f"classnames.txt names {len(wnids):,} classes: 0 to {len(wnids) - 1} are needed"
            )
        return read_classes(
            folder, [(str(label), label, names[wnid]) for label, wnid in enumerate(wnids)]
        )
