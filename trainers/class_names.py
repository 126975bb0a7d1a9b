"""Warnings about class names with which an accuracy means less than it seems to.

None of them is an error: ImageNet's own list has names that occur twice.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .encode import unit
from .learner import tokenizer

__all__ = ["feature_warnings", "name_warnings", "single_class_warnings", "word_warnings"]

SHOWN = 3  # names or pairs in a warning
EQUAL = 1e-6  # features with a cosine above 1 - EQUAL are equal
ROWS = 1024  # classes that are compared with all others at once


def name_warnings(classnames: Sequence[str]) -> list[str]:
    """Return warnings about names that are empty, equal, or equal as tokens of CLIP."""
    empty, equal, alike = [], [], []
    for tokens, labels in _same_tokens(classnames).items():
        names = [classnames[label] for label in labels]
        if not tokens:
            empty += [f"{name!r} ({_labels([k])})" for name, k in zip(names, labels, strict=True)]
        elif len(set(names)) < len(names):
            equal.append(f"{_listed(sorted(set(names)))} ({_labels(labels)})")
        elif len(names) > 1:
            alike.append(f"{_listed(names)} ({_labels(labels)})")
    twins = "which CLIP cannot tell apart, so that usually only the first of them is predicted"
    found = {
        "class names are empty or blank": empty,
        f"several classes have the same name, {twins}": equal,
        f"class names differ only in case, spaces or underscores, {twins}": alike,
    }
    return [f"{text}: {_some(items)}" for text, items in found.items() if items]


def single_class_warnings(classnames: Sequence[str], groups: Iterable[Sequence[int]]) -> list[str]:
    """Return a warning for a class list, or for labels that are compared, of one class."""
    lists = [list(labels) for labels in groups] or [list(range(len(classnames)))]
    return [
        f"the only class that is compared is {classnames[labels[0]]!r}, so the accuracy is 100 % "
        "with any model: use a dataset with more classes, or another DATASET.SUBSAMPLE_CLASSES"
        for labels in lists
        if len(labels) == 1
    ]


def word_warnings(classnames: Sequence[str], table: Tensor, key: str, backbone: str) -> list[str]:
    """Return a warning about words whose tokens have only zeros in ``table`` (vocabulary, W).

    ``table`` is the token embedding of the CLIP ``backbone``, which the setting ``key`` names.
    """
    tokens = {
        word: tokenizer().encode(word)
        for name in classnames
        for word in name.replace("_", " ").split()
    }
    ids = sorted({token for word in tokens.values() for token in word})
    learned = table.detach()[torch.tensor(ids, dtype=torch.long, device=table.device)].ne(0)
    unknown = {
        token for token, fine in zip(ids, learned.any(dim=1).tolist(), strict=True) if not fine
    }
    words = [word for word, parts in tokens.items() if not unknown.isdisjoint(parts)]
    if not words:
        return []
    names = [
        name for name in classnames if not set(words).isdisjoint(name.replace("_", " ").split())
    ]
    plural = "s" if len(words) > 1 else ""
    return [
        f"{backbone} has never seen the word{plural} {_some(map(repr, words))} (in "
        f"{len(names):,} of {len(classnames):,} class names: {_some(map(repr, names))}), "
        f"because the bundled models are for Critters only: set {key} to a CLIP for "
        "all words, such as ViT-B/16"
    ]


def feature_warnings(classnames: Sequence[str], features: Tensor) -> list[str]:
    """Return a warning about different names with equal text features (C, d).

    Names that are equal as tokens are left out, because `name_warnings` names them.
    """
    units = unit(features.detach().float())
    group = torch.empty(len(classnames), dtype=torch.long, device=units.device)
    for number, labels in enumerate(_same_tokens(classnames).values()):
        group[labels] = number
    pairs: list[list[int]] = []
    count = torch.zeros((), dtype=torch.long, device=units.device)
    for start in range(0, len(classnames), ROWS):
        rows = slice(start, start + ROWS)
        equal = (units[rows] @ units.T > 1 - EQUAL) & (group[rows, None] != group)
        equal = equal.triu(start + 1)  # each pair once
        count += equal.sum()
        if len(pairs) < SHOWN and equal.any():
            pairs += [[start + a, b] for a, b in equal.nonzero()[:SHOWN].tolist()]
    if not pairs:
        return []
    listed = [f"{classnames[a]!r} and {classnames[b]!r}" for a, b in pairs[:SHOWN]]
    more = f" (and {int(count) - SHOWN:,} more pairs)" if int(count) > SHOWN else ""
    return [
        f"the text features of {', of '.join(listed)}{more} are equal, so that the model cannot "
        "tell these classes apart"
    ]


def _same_tokens(classnames: Sequence[str]) -> dict[tuple[int, ...], list[int]]:
    """Return the labels of each sequence of tokens, as `learner.class_tokens` makes them."""
    found: dict[tuple[int, ...], list[int]] = {}
    for label, name in enumerate(classnames):
        found.setdefault(tuple(tokenizer().encode(name.replace("_", " "))), []).append(label)
    return found


def _some(items: Iterable[str]) -> str:
    """Return the first items and the number of the others."""
    listed = list(items)
    more = f" and {len(listed) - SHOWN:,} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def _listed(names: Sequence[str]) -> str:
    return " and ".join(map(repr, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")


def _labels(labels: Sequence[int]) -> str:
    shown = ", ".join(map(str, labels[:SHOWN])) + (", ..." if len(labels) > SHOWN else "")
    return f"label{'s' if len(labels) > 1 else ''} {shown}"
