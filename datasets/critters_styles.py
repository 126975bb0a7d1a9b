"""Critters in styles seen in pre-training: sketches, paintings, dark and blurry images.

Test sets for models trained on Critters, like the variants of ImageNet: the same species and
colors as in Critters, but other individuals in another style (VARIANTS in
critters_world/looks.py). Three of them have all 36 species. CrittersDark has every second one,
three of each genus, and its accuracy is over these 18 classes.
"""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Counts, Splits
from .critters import Critters
from .critters_world.folder import Plan

_SPECIES = Critters.plan.species
_HALF = set(sorted(_SPECIES)[::2])  # SPECIES is in the order of the genera


def _plan(species: tuple[int, ...], style: str, seed: int) -> Plan:
    return Plan(species, f"{style}-hue50", train=0, val=0, test=50, seed=seed)


class CrittersVariant(Critters):
    """A shifted test set for models trained on Critters, with accuracy over its own classes."""

    def read_splits(self) -> Splits:
        return {"test": super().read_splits()["test"]}


@DATASET_REGISTRY.register()
class CrittersSketch(CrittersVariant):
    dataset_dir = "critters_sketch"
    plan = _plan(_SPECIES, "sketch", seed=2027)
    counts = Counts(classes=36, test=1800)


@DATASET_REGISTRY.register()
class CrittersPainting(CrittersVariant):
    dataset_dir = "critters_painting"
    plan = _plan(_SPECIES, "painting", seed=2028)
    counts = Counts(classes=36, test=1800)


@DATASET_REGISTRY.register()
class CrittersDark(CrittersVariant):
    dataset_dir = "critters_dark"
    plan = _plan(tuple(s for s in _SPECIES if s in _HALF), "dark", seed=2029)
    counts = Counts(classes=18, test=900)


@DATASET_REGISTRY.register()
class CrittersBlurry(CrittersVariant):
    dataset_dir = "critters_blurry"
    plan = _plan(_SPECIES, "blurry", seed=2030)
    counts = Counts(classes=36, test=1800)
