"""What pre-training says about a picture: captions that mention some of its facts.

A caption comes with the list of facts it mentions. Two pictures that agree on those facts are both
described by it, so the contrastive loss knows which pairs of a batch are not negatives.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

from datasets.critters_world import (
    BACKGROUNDS,
    COLORS,
    GENERA,
    ORNAMENTS,
    PATTERNS,
    SPECIES,
    STYLES,
    TAILS,
    Creature,
)

# The values of every fact, in the order of a picture's label vector.
FACTS: dict[str, tuple[str, ...]] = {
    "species": tuple(species.name for species in SPECIES),
    "genus": GENERA,
    "ornament": ORNAMENTS,
    "tail": TAILS,
    "pattern": PATTERNS,
    "color": COLORS,
    "background": BACKGROUNDS,
    "style": tuple(STYLES),
}
NO_SPECIES = -1  # label of a creature that is of no species

_ORNAMENT = {"horn": "a horn", "ears": "ears", "antennae": "antennae", "crest": "a crest"}
_TAIL = {"none": "no tail", **{tail: f"a {tail} tail" for tail in TAILS if tail != "none"}}
_PLACE = {
    "studio": "in a studio",
    "grass": "on grass",
    "sand": "on sand",
    "water": "in water",
    "snow": "in snow",
    "forest": "in a forest",
}
_MEDIUM = {
    "photo": "photo",
    "sketch": "sketch",
    "painting": "painting",
    "dark": "dark photo",
    "blurry": "blurry photo",
}
# Prompts that learners and users write around a class name, beside the captions' own.
_OTHER_PROMPTS = ("X, a type of creature.", "X, an animal.", "a photo of many X")


class Scene(NamedTuple):
    """The facts of one picture, by name; species is None for a creature of no species."""

    species: int | None
    creature: Creature
    background: str
    style: str

    def labels(self) -> list[int]:
        """Index of every fact's value, in the order of FACTS."""
        values = {**vars(self.creature), "background": self.background, "style": self.style}
        species = NO_SPECIES if self.species is None else self.species
        return [species] + [FACTS[fact].index(values[fact]) for fact in list(FACTS)[1:]]


def caption(scene: Scene, rng: np.random.RandomState) -> tuple[str, set[str]]:
    """Describe a scene: a caption, and the names of the facts that it mentions."""
    creature = scene.creature
    named = scene.species is not None and rng.rand() < 0.75
    noun = SPECIES[scene.species].name if named and scene.species is not None else creature.genus
    mentioned = {"species", "genus"} if named else {"genus"}
    # A third of the named captions say the name only, the others this share of the rest.
    detail = rng.choice([0.0 if named else 0.35, 0.35, 0.75], p=[0.35, 0.35, 0.30])

    def say(fact: str) -> bool:
        if rng.rand() < detail:
            mentioned.add(fact)
        return fact in mentioned

    if (not named or rng.rand() < 0.5) and say("pattern"):
        noun = f"{creature.pattern} {noun}"
    if say("color"):
        noun = f"{creature.color} {noun}"
    extras = []
    if creature.ornament != "none" and say("ornament"):
        extras.append(_ORNAMENT[creature.ornament])
    if (creature.tail != "none" or rng.rand() < 0.3) and say("tail"):
        extras.append(_TAIL[creature.tail])
    if extras:
        noun += " with " + " and ".join(extras)
    if rng.rand() < 0.25:
        noun += " " + _PLACE[scene.background]
        mentioned.add("background")
    return _frame(noun, scene.style, mentioned, rng), mentioned


def _frame(noun: str, style: str, mentioned: set[str], rng: np.random.RandomState) -> str:
    """Put a noun phrase into a sentence; may mention the style ("photo" says nothing)."""
    kind = rng.rand()
    if kind < 0.55:
        if style != "photo":
            mentioned.add("style")
        text = f"a {_MEDIUM[style]} of a {noun}"
    elif kind < 0.70:
        text = f"a picture of a {noun}"
    elif kind < 0.80:
        text = f"a {noun}"
    elif kind < 0.86:
        text = f"this is a {noun}"
    elif kind < 0.92:
        text = noun
    else:  # learners start from, and users average over, these: they say nothing about the picture
        template = SIMPLE_IMAGENET_TEMPLATES[rng.randint(len(SIMPLE_IMAGENET_TEMPLATES))]
        return template(noun)
    return text + ("." if rng.rand() < 0.8 else "")


def vocabulary_texts() -> list[str]:
    """Texts that together hold every word of the captions and of CLIP's prompt templates."""
    texts = [value.replace("none", "no") for values in FACTS.values() for value in values]
    texts += [*_ORNAMENT.values(), *_TAIL.values(), *_PLACE.values(), *_MEDIUM.values()]
    texts += ["a picture of a X.", "this is a X with X and X", *_OTHER_PROMPTS]
    return texts + [template("X") for template in OPENAI_IMAGENET_TEMPLATES]
