"""FGVCAircraft: 100 aircraft variants, such as "Boeing 737-700".

Maji et al., Fine-Grained Visual Classification of Aircraft, 2013,
https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/: the folder data/ of the archive, renamed to
fgvc_aircraft. Its text files are the split; labels follow the order of variants.txt.
"""

import os

from dassl.data.datasets import DATASET_REGISTRY, Datum
from dassl.utils import UsageError

from .base import Counts, SplitDataset, Splits
from .split import PARTS, require_images
from .text import read_lines, shown


@DATASET_REGISTRY.register()
class FGVCAircraft(SplitDataset):
    dataset_dir = "fgvc_aircraft"
    image_dir = "images"
    images_url = (
        "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz"
    )
    counts = Counts(classes=100, train=3334, val=3333, test=3333)
    base_test = 1666

    def read_splits(self) -> Splits:
        self.require_folder(self.image_dir)
        names = self._lines("variants.txt")
        labels = {name: label for label, name in enumerate(names)}
        if len(labels) < len(names):
            twice = next(name for label, name in enumerate(names) if labels[name] != label)
            raise UsageError(
                f"{self.dataset_dir}/variants.txt names {shown(twice)} more than once: get it "
                f"again from {self.sources}"
            )
        return {part: self._read_part(f"images_variant_{part}.txt", labels) for part in PARTS}

    def _read_part(self, filename: str, labels: dict[str, int]) -> list[Datum]:
        """Return the images of a file with lines like "1025794 707-320"."""
        items = []
        for line in self._lines(filename):
            number, _, variant = line.partition(" ")
            if variant not in labels:
                raise UsageError(
                    f"{self.dataset_dir}/{filename} names the variant {shown(variant)!r}, which "
                    "variants.txt does not: take both from the same archive"
                )
            if not number.isdecimal():
                raise UsageError(
                    f"{self.dataset_dir}/{filename} names the image {shown(number)!r}, which is "
                    f"no number: get it again from {self.sources}"
                )
            impath = os.path.join(self.image_dir, f"{number}.jpg")
            items.append(Datum(impath, label=labels[variant], classname=variant))
        require_images(items, self.image_dir, filename, f"get them again from {self.sources}")
        return items

    def _lines(self, filename: str) -> list[str]:
        path = os.path.join(self.dataset_dir, filename)
        self.require_file(path, self.sources)
        return read_lines(path)
