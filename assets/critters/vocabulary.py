"""The words that the small text tower knows: a token table without the ids that are never used."""

from __future__ import annotations

import torch
from torch import Tensor

import clip
from assets.critters.captions import vocabulary_texts
from dassl.utils import UsageError


class Vocabulary:
    """Token ids in use, and their row numbers in a table that holds no others.

    Ids are sorted, so that the end of a text has the largest row as it has the largest id, and
    row 0 is the padding of clip.tokenize.
    """

    def __init__(self) -> None:
        tokens = clip.tokenize(vocabulary_texts()).long()
        self.ids = torch.unique(torch.cat([torch.zeros(1).long(), tokens.flatten()]))

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, tokens: Tensor) -> Tensor:
        """Row numbers of token ids, any shape; an id that is not in use is a UsageError."""
        rows = torch.searchsorted(self.ids, tokens).clamp(max=len(self) - 1)
        if not torch.equal(self.ids[rows], tokens):
            unknown = sorted(set(tokens.flatten().tolist()) - set(self.ids.tolist()))
            raise UsageError(
                f"token ids {unknown} are not in the vocabulary of the small text tower: add their "
                "words to vocabulary_texts() in assets/critters/captions.py and train again"
            )
        return rows
