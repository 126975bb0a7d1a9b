"""Critters: a synthetic dataset of 36 fine-grained species, rendered at first use.

It needs no download. The bundled CLIP `critters-vit-t` (assets/) was pre-trained on the same world
without this domain shift and classifies its images in part. The first 18 classes, three of each
genus, are base classes, the other 18 are new classes. See datasets/critters_world.
"""

from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UsageError

from .base import Counts, SplitDataset
from .critters_world import downstream_species
from .critters_world.folder import SPLIT_FILE, Plan, prepare_folder


@DATASET_REGISTRY.register()
class Critters(SplitDataset):
    """36 classes; `plan` sets the species, the numbers of images and the domain shift."""

    dataset_dir = "critters"
    image_dir = "images"
    split_file = SPLIT_FILE
    counts = Counts(classes=36, train=1440, val=720, test=3600)
    # The shift was chosen by assets/critters/choose_shift.py, on validation images.
    plan = Plan(species=sum(downstream_species(), ()), shift="hue50")

    def __init__(self, cfg: CfgNode) -> None:
        if cfg.DATASET.ROOT:  # in a fresh clone there is no data folder yet
            try:
                Path(cfg.DATASET.ROOT).expanduser().mkdir(parents=True, exist_ok=True)
            except OSError as error:
                name = type(self).__name__
                raise UsageError(
                    f"DATASET.ROOT (--root) is {cfg.DATASET.ROOT!r}, but {name} cannot be created "
                    f"there ({error}): set it to a writable folder"
                ) from error
        super().__init__(cfg)

    def prepare(self) -> None:
        prepare_folder(self.plan, Path(self.dataset_dir))
