"""Images for a check where the user gives none: pictures of the bundled synthetic world."""

from typing import Any

import numpy as np
from PIL import Image

COUNT = 6


def draw(classifier: Any) -> list[Image.Image]:
    """Return `COUNT` different RGB images of the size that the backbone takes."""
    from datasets.critters_world import PHOTO, SPECIES, render

    side = classifier.model.learner.clip_model.visual.input_resolution
    pictures = []
    for number in range(COUNT):
        rng = np.random.RandomState([number, 7])
        species = SPECIES[number * len(SPECIES) // COUNT]
        pixels = render(species.creature, "grass", PHOTO, rng).image
        pictures.append(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))
    return pictures
