"""Captions for pre-training, and the vocabulary that covers them.

A caption is returned with the names of the facts it mentions. It describes every image that has
the same values of these facts, so the contrastive loss can exclude false negatives of a batch.
"""

from typing import NamedTuple

import numpy as np
import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES
from torch import Tensor

import clip
from dassl.utils import UsageError
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

# The values of every fact, in the order of an image's label vector.
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
NO_SPECIES = -1  # species label of a creature with a random combination of attributes

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
_MEDIUM = {style: f"{style} photo" if style in ("dark", "blurry") else style for style in STYLES}


class Scene(NamedTuple):
    """Facts shown in one image, by name; species is None for a random creature."""

    species: int | None
    creature: Creature
    background: str
    style: str

    def labels(self) -> list[int]:
        """Return the index of every fact's value, in the order of FACTS."""
        values = {**vars(self.creature), "background": self.background, "style": self.style}
        species = NO_SPECIES if self.species is None else self.species
        return [species] + [FACTS[fact].index(values[fact]) for fact in list(FACTS)[1:]]


def caption(scene: Scene, rng: np.random.RandomState) -> tuple[str, set[str]]:
    """Return a random caption of a scene and the names of the facts that it mentions."""
    creature = scene.creature
    named = scene.species is not None and rng.rand() < 0.75
    noun = SPECIES[scene.species].name if named and scene.species is not None else creature.genus
    mentioned = {"species", "genus"} if named else {"genus"}
    # Probability of each further fact; a third of the named captions have the name only.
    detail = rng.choice([0.0 if named else 0.35, 0.35, 0.75], p=[0.35, 0.35, 0.30])

    def mention(fact: str) -> bool:
        if rng.rand() < detail:
            mentioned.add(fact)
        return fact in mentioned

    if (not named or rng.rand() < 0.5) and mention("pattern"):
        noun = f"{creature.pattern} {noun}"
    if mention("color"):
        noun = f"{creature.color} {noun}"
    extras = []
    if creature.ornament != "none" and mention("ornament"):
        extras.append(_ORNAMENT[creature.ornament])
    if (creature.tail != "none" or rng.rand() < 0.3) and mention("tail"):
        extras.append(_TAIL[creature.tail])
    if extras:
        noun += " with " + " and ".join(extras)
    if rng.rand() < 0.25:
        noun += " " + _PLACE[scene.background]
        mentioned.add("background")
    return _frame(noun, scene.style, mentioned, rng), mentioned


def _frame(noun: str, style: str, mentioned: set[str], rng: np.random.RandomState) -> str:
    """Put a noun phrase into a sentence, which may mention any style but "photo"."""
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
    else:  # CLIP's templates, which users average over, mention no fact
        template = SIMPLE_IMAGENET_TEMPLATES[rng.randint(len(SIMPLE_IMAGENET_TEMPLATES))]
        return template(noun)
    return text + ("." if rng.rand() < 0.8 else "")


def vocabulary_texts() -> list[str]:
    """Return texts that together contain every word of the captions and of CLIP's templates."""
    texts = [value.replace("none", "no") for values in FACTS.values() for value in values]
    texts += [*_ORNAMENT.values(), *_TAIL.values(), *_PLACE.values(), *_MEDIUM.values()]
    texts += ["a picture of a X.", "this is a X with X and X"]
    texts += ["X, a type of creature.", "X, an animal.", "a photo of many X"]  # users' prompts
    return texts + [template("X") for template in OPENAI_IMAGENET_TEMPLATES]


class Vocabulary:
    """Token ids in use, mapped to rows of a reduced embedding table.

    Ids are sorted: row 0 is the padding of clip.tokenize, and the end-of-text token keeps the
    largest number.
    """

    def __init__(self) -> None:
        tokens = clip.tokenize(vocabulary_texts()).long()
        self.ids = torch.unique(torch.cat([torch.zeros(1).long(), tokens.flatten()]))

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, tokens: Tensor) -> Tensor:
        """Return the row numbers of token ids of any shape; raise UsageError for an unused id."""
        rows = torch.searchsorted(self.ids, tokens).clamp(max=len(self) - 1)
        if not torch.equal(self.ids[rows], tokens):
            unknown = sorted(set(tokens.flatten().tolist()) - set(self.ids.tolist()))
            raise UsageError(
                f"token ids {unknown} are not in the vocabulary of the Critters models: add their "
                "words to vocabulary_texts() in assets/critters/captions.py and train again"
            )
        return rows
