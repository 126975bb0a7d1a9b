"""Zero-shot accuracy over all 72 species."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import clip
from assets.critters.captions import FACTS, NO_SPECIES
from clip.openai import MEAN, STD
from datasets.critters_world import SPECIES

PROMPT = "a photo of a {}."
_MEAN, _STD = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))


def normalize(images: np.ndarray) -> Tensor:
    """Return CLIP's input (B, 3, S, S) float32 of images (B, S, S, 3) uint8."""
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    return (pixels - _MEAN) / _STD


def accuracy_by_style(
    encode_image: Callable[[Tensor], Tensor],
    encode_text: Callable[[Tensor], Tensor],
    images: np.ndarray,
    labels: np.ndarray,
) -> dict[str, float]:
    """Return accuracy in percent for each style that occurs and for "all"; skip random creatures.

    ``encode_image`` maps normalized images (B, 3, S, S) to features (B, d), ``encode_text`` the ids
    of clip.tokenize (C, 77) to (C, d). ``images`` are (N, S, S, 3) uint8 with ``labels`` (N, 8).
    """
    text = encode_text(clip.tokenize([PROMPT.format(s.name) for s in SPECIES]).long())
    text = F.normalize(text.float(), dim=-1)
    species = labels[:, list(FACTS).index("species")]
    style = labels[:, list(FACTS).index("style")]
    shown = np.flatnonzero(species != NO_SPECIES)
    guesses = [
        (encode_image(normalize(images[rows])).float() @ text.t()).argmax(-1).numpy()
        for rows in np.array_split(shown, max(1, len(shown) // 250))
    ]
    correct = np.concatenate(guesses) == species[shown]
    scores = {"all": correct}
    scores |= {name: correct[style[shown] == i] for i, name in enumerate(FACTS["style"])}
    return {
        name: round(100 * float(np.mean(hits)), 1) for name, hits in scores.items() if len(hits)
    }
