"""A procedural world of fine-grained creatures: species, looks and a numpy renderer.

rng = np.random.RandomState([1, 2, 3])
picture = render(SPECIES[0].creature, "grass", STYLES["photo"], rng).image  # (64, 64, 3) uint8
"""

from datasets.critters_world.looks import LOOKS, PHOTO, SHIFTS, STYLES, Look
from datasets.critters_world.renderer import Rendering, render
from datasets.critters_world.species import (
    BACKGROUNDS,
    COLORS,
    GENERA,
    ORNAMENTS,
    PATTERNS,
    SPECIES,
    TAILS,
    Creature,
    Species,
    downstream_species,
    other_species,
    random_creature,
)

__all__ = [
    "BACKGROUNDS",
    "COLORS",
    "GENERA",
    "LOOKS",
    "ORNAMENTS",
    "PATTERNS",
    "PHOTO",
    "SHIFTS",
    "SPECIES",
    "STYLES",
    "TAILS",
    "Creature",
    "Look",
    "Rendering",
    "Species",
    "downstream_species",
    "other_species",
    "random_creature",
    "render",
]
