"""Critters in the styles that pre-training has seen: sketches, paintings, dark and blurry pictures.

Test sets for models trained on Critters, as ImageNet's variants are for models trained on ImageNet:
the same species in the colors that they have in Critters, in pictures of another style
(critters_world/looks.py, VARIANTS) and of other individuals. Three of them hold all 36 species.
CrittersDark holds every second one, three of each genus, and accuracy is over these 18, as that on
ImageNet-A and -R is over 200 classes.
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
    """A shifted test set for models trained on Critters, scored over the classes it holds."""

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
