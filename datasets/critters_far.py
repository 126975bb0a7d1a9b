"""CrittersFar: the 36 species that Critters does not use, under another domain shift.

A second dataset, so that a model trained on one can be tested on the other. Its shift is the
runner-up of the rule that chose Critters' shift (assets/critters/shift.md), and was fixed before
any image of these species was rendered.
"""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Counts
from .critters import Critters
from .critters_world import other_species
from .critters_world.folder import Plan


@DATASET_REGISTRY.register()
class CrittersFar(Critters):
    """36 classes: the first 18, three of each genus, are base classes, the others new classes."""

    dataset_dir = "critters_far"
    counts = Counts(classes=36, train=1440, val=720, test=3600)
    plan = Plan(species=sum(other_species(), ()), shift="pale36")
