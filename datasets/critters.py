"""Critters: a synthetic dataset of 36 fine-grained species, rendered at first use.

It needs no download. The bundled CLIP `critters-vit-t` (assets/) was pre-trained on the same world
without this domain shift and classifies its images in part. The first 18 classes, three of each
genus, are base classes, the other 18 are new classes. See datasets/critters_world. CrittersFar is a
second dataset of other species; CrittersSketch, -Painting, -Dark and -Blurry are test sets.
"""

from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UsageError

from .base import Counts, SplitDataset, Splits
from .critters_world import downstream_species
from .critters_world.folder import SPLIT_FILE, Plan, prepare_folder


@DATASET_REGISTRY.register()
class Critters(SplitDataset):
    """36 classes; `plan` sets the species, the numbers of images and the domain shift."""

    dataset_dir = "critters"
    image_dir = "images"
    split_file = SPLIT_FILE
    trusted_images = True
    counts = Counts(classes=36, train=1440, val=720, test=3600)
    # The shift was chosen by assets/critters/choose_shift.py, on validation images.
    plan = Plan(species=downstream_species(0), shift="hue50")

    def prepare(self) -> None:
        try:  # in a fresh clone there is no data folder yet
            Path(self.root).expanduser().mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"DATASET.ROOT (--root) is {self.root!r}, but {self.name} cannot be created "
                f"there ({error}): set it to a writable folder"
            ) from error
        prepare_folder(self.plan, Path(self.dataset_dir))


@DATASET_REGISTRY.register()
class CrittersFar(Critters):
    """The 36 species that Critters does not use, under another domain shift.

    Its shift is the runner-up of the rule that chose Critters' shift (assets/critters/shift.md),
    fixed before any image of these species was rendered.
    """

    dataset_dir = "critters_far"
    plan = Plan(species=downstream_species(1), shift="pale36")


_SPECIES = Critters.plan.species
_HALF = set(sorted(_SPECIES)[::2])  # SPECIES is in the order of the genera


def _plan(species: tuple[int, ...], style: str, seed: int) -> Plan:
    return Plan(species, f"{style}-hue50", train=0, val=0, test=50, seed=seed)


class CrittersVariant(Critters):
    """A test set for models trained on Critters, with accuracy over its own classes.

    It has the species and colors of Critters, but other individuals in a style that was seen in
    pre-training (VARIANTS in critters_world/looks.py).
    """

    counts = Counts(classes=36, test=1800)

    def read_splits(self) -> Splits:
        return {"test": super().read_splits()["test"]}


@DATASET_REGISTRY.register()
class CrittersSketch(CrittersVariant):
    dataset_dir = "critters_sketch"
    plan = _plan(_SPECIES, "sketch", seed=2027)


@DATASET_REGISTRY.register()
class CrittersPainting(CrittersVariant):
    dataset_dir = "critters_painting"
    plan = _plan(_SPECIES, "painting", seed=2028)


@DATASET_REGISTRY.register()
class CrittersDark(CrittersVariant):
    dataset_dir = "critters_dark"
    plan = _plan(tuple(s for s in _SPECIES if s in _HALF), "dark", seed=2029)
    counts = Counts(classes=18, test=900)


@DATASET_REGISTRY.register()
class CrittersBlurry(CrittersVariant):
    dataset_dir = "critters_blurry"
    plan = _plan(_SPECIES, "blurry", seed=2030)
