# ruff: noqa: F401
"""A procedural world of fine-grained creatures: species, looks and a numpy renderer.

rng = np.random.RandomState([1, 2, 3])
picture = render(SPECIES[0].creature, "grass", STYLES["photo"], rng).image  # (64, 64, 3) uint8
"""

from .looks import LOOKS, PHOTO, SHIFTS, STYLES, Look
from .renderer import Rendering, render
from .species import (
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
    random_creature,
)
