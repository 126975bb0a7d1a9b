"""What a probe measures: the contents of the JSON file of scripts/probe.py."""

from typing import Any

import msgspec

__all__ = ["ClassRead", "EntryUse", "Half", "Probe", "Probes", "Reading", "Replacement"]


class Replacement(msgspec.Struct, frozen=True):
    """The test images with a version of the refinement (`scripts.probing.reads.VERSIONS`).

    accuracy: in percent.
    changed: predictions that differ from those of the model as trained; some of them are
        newly_wrong or newly_right, the others wrong in both.
    """

    version: str
    accuracy: float
    changed: int
    newly_wrong: int
    newly_right: int


class ClassRead(msgspec.Struct, frozen=True):
    """The entropy of a class's weights over the entries, in nats and relative to log M."""

    name: str
    entropy: float
    relative_entropy: float | None  # None with a single entry


class Reading(msgspec.Struct, frozen=True):
    """What the texts of C classes read; with text per image means over the images.

    texts: 1, or the number of images with text per image.
    weight_min, weight_max: smallest and largest weight x M; 1 is a uniform read.
    mean_entropy, max_entropy: in nats; relative_entropy is their quotient, None if M is 1.
    share: ||R - mean R|| / ||R||, the part of R that depends on the class.
    added_share: the same of alpha W2 R; None if W has no input from the read.
    cosine_min, cosine_mean, cosine_max: of R_i and R_j, i != j; None with a single class.
    """

    texts: int
    weight_min: float
    weight_max: float
    mean_entropy: float
    max_entropy: float
    relative_entropy: float | None
    share: float
    added_share: float | None
    cosine_min: float | None
    cosine_mean: float | None
    cosine_max: float | None
    classes: list[ClassRead]


class Half(msgspec.Struct, frozen=True):
    """The test images of some classes: all, base or new ones.

    data: as `dassl.data.fingerprint.describe_data` describes the images.
    images, of_images: those that were used, and without --max-images.
    """

    classes: str
    split: str
    images: int
    of_images: int
    data: dict[str, Any]
    reading: Reading
    replacements: list[Replacement]


class EntryUse(msgspec.Struct, frozen=True):
    """The cache at a checkpoint, with the training images.

    epoch: None for the best-val checkpoint.
    tokens: aligned tokens of each entry; a token belongs to the entry with the largest cosine.
    cosine_min, cosine_mean, cosine_max: of two entries; None with a single entry.
    kept: mean cosine of an entry with itself at the checkpoint before; None at the first one.
    """

    epoch: int | None
    tokens: list[int]
    cosine_min: float | None
    cosine_mean: float | None
    cosine_max: float | None
    kept: float | None


class Probe(msgspec.Struct, frozen=True):
    """All measures of a run.

    settings: those that differ from the defaults, besides seed and paths.
    checkpoint: in words; train_images are those of ``epochs``.
    clip: fingerprint of CLIP's weights, {} if it is not recorded.
    commit: of the training, None if it is not recorded.
    """

    folder: str
    model_folder: str
    method: str
    dataset: str
    seed: int
    shots: int
    backbone: str
    clip: dict[str, Any]
    precision: str
    device: str
    checkpoint: str
    commit: str | None
    settings: dict[str, Any]
    cache_size: int
    alpha: float
    halves: list[Half]
    epochs: list[EntryUse]
    train_images: int


class Probes(msgspec.Struct, frozen=True):
    """The JSON file of scripts/probe.py: probes in the order of the runs.

    random_seed: of the rows of the version "random".
    versions: name -> meaning.
    commit: of the code that probed, None outside of a checkout.
    """

    random_seed: int
    versions: dict[str, str]
    commit: str | None
    runs: list[Probe]
