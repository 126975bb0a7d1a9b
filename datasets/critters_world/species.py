"""The creatures of the Critters world: their attributes and the 72 species.

A species is named by an epithet and its genus ("forktail dax"). The epithet names one attribute,
the name does not mention the others. Species share attributes and must be distinguished by those
that are not in their names: fine-grained classes.
"""

from dataclasses import dataclass, replace

import numpy as np

GENERA = ("wug", "dax", "fep", "blick", "toma", "zorp")
ORNAMENTS = ("none", "horn", "ears", "antennae", "crest")
TAILS = ("none", "long", "forked", "club", "fan", "curly")
PATTERNS = ("plain", "striped", "spotted", "checkered", "ringed", "belted")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "brown", "grey")
BACKGROUNDS = ("studio", "grass", "sand", "water", "snow", "forest")

# The attribute and value that an epithet stands for.
EPITHETS = {
    "horned": ("ornament", "horn"),
    "eared": ("ornament", "ears"),
    "feathered": ("ornament", "antennae"),
    "crested": ("ornament", "crest"),
    "longtail": ("tail", "long"),
    "forktail": ("tail", "forked"),
    "clubtail": ("tail", "club"),
    "fantail": ("tail", "fan"),
    "striped": ("pattern", "striped"),
    "spotted": ("pattern", "spotted"),
    "checkered": ("pattern", "checkered"),
    "ringed": ("pattern", "ringed"),
}

_SPECIES_SEED = 7  # of the attributes that the epithets do not name
_DOWNSTREAM_SEED = 11  # of the assignment of species to datasets


@dataclass(frozen=True)
class Creature:
    """The visible attributes of a creature."""

    genus: str
    ornament: str
    tail: str
    pattern: str
    color: str


@dataclass(frozen=True)
class Species:
    """A name ("forktail dax") and its creature."""

    name: str
    creature: Creature


def random_creature(rng: np.random.RandomState, genus: str) -> Creature:
    """Sample all attributes but the genus."""
    return Creature(
        genus=genus,
        ornament=ORNAMENTS[rng.randint(len(ORNAMENTS))],
        tail=TAILS[rng.randint(len(TAILS))],
        pattern=PATTERNS[rng.randint(len(PATTERNS))],
        color=COLORS[rng.randint(len(COLORS))],
    )


def _all_species() -> tuple[Species, ...]:
    """Combine epithets and genera; in a genus no two share ornament, tail and pattern."""
    rng = np.random.RandomState(_SPECIES_SEED)
    species = []
    for genus in GENERA:
        taken: set[tuple[str, str, str]] = set()
        for epithet, (attribute, value) in EPITHETS.items():
            while True:
                creature = replace(random_creature(rng, genus), **{attribute: value})
                looks = (creature.ornament, creature.tail, creature.pattern)
                if looks not in taken:
                    break
            taken.add(looks)
            species.append(Species(f"{epithet} {genus}", creature))
    return tuple(species)


SPECIES = _all_species()


def downstream_species(dataset: int) -> tuple[int, ...]:
    """Return indices into SPECIES: the classes of Critters (``dataset`` 0) or CrittersFar (1).

    18 base classes are followed by 18 new ones, three of every genus each, chosen at random.
    """
    rng = np.random.RandomState(_DOWNSTREAM_SEED)
    first = 6 * dataset
    base: list[int] = []
    new: list[int] = []
    for genus in GENERA:
        members = [i for i, species in enumerate(SPECIES) if species.creature.genus == genus]
        shuffled = [members[i] for i in rng.permutation(len(members))]
        base += shuffled[first : first + 3]
        new += shuffled[first + 3 : first + 6]
    return (*base, *new)
