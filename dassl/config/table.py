"""What each setting may be: its type, allowed values and meaning.

A row describes one key of the config; defaults.py has its default. `check_rows` applies the rows to
a config, and docs/settings.md is printed from them. Importing this does not import torch.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta
from yacs.config import CfgNode

from ..utils.errors import UsageError, nearest

MANY = 1_000_000  # the bound of numbers that have no smaller natural one


class Row(NamedTuple):
    """One setting: the type that `msgspec.convert` checks, its description, and its meaning."""

    kind: Any
    allowed: str
    meaning: str
    names: tuple[str, ...] = ()  # the allowed words, to suggest the nearest one


def whole(low: int, high: int, meaning: str) -> Row:
    """Return a row for an integer from ``low`` to ``high``."""
    kind = Annotated[int, Meta(ge=low, le=high)]
    return Row(kind, f"a whole number from {low:,} to {high:,}", meaning)


def number(low: float, high: float, meaning: str) -> Row:
    """Return a row for a finite number from ``low`` to ``high``."""
    kind = Annotated[float, Meta(ge=low, le=high)]
    return Row(kind, f"a number from {low:,} to {high:,}", meaning)


def below_1(meaning: str) -> Row:
    """Return a row for a number from 0 up to, but not including, 1."""
    return Row(Annotated[float, Meta(ge=0, lt=1)], "at least 0 and less than 1", meaning)


def choice(names: Sequence[str], meaning: str) -> Row:
    """Return a row for one of some words."""
    return Row(
        Literal.__getitem__(tuple(names)), f"one of {', '.join(names)}", meaning, tuple(names)
    )


def flag(meaning: str) -> Row:
    """Return a row for a switch."""
    return Row(bool, "True or False", meaning)


def text(meaning: str) -> Row:
    """Return a row for any text."""
    return Row(str, "text", meaning)


def path(meaning: str) -> Row:
    """Return a row for the path of a file or folder."""
    return Row(str, "a path", meaning)


def words(meaning: str) -> Row:
    """Return a row for a list of names."""
    return Row(tuple[str, ...], "a list of names", meaning)


_EDGE = Annotated[int, Meta(ge=1, le=4096)]
_SHARE = Annotated[float, Meta(gt=0, le=1)]
_CHANNEL = Annotated[float, Meta(ge=-MANY, le=MANY)]
_SPREAD = Annotated[float, Meta(gt=0, le=MANY)]
_EPOCH = Annotated[int, Meta(ge=-1, le=MANY)]
SAMPLERS = (
    *("RandomSampler", "SequentialSampler", "RandomDomainSampler", "SeqDomainSampler"),
    "RandomClassSampler",
)
TRANSFORMS = (
    *("random_translation", "random_crop", "random_resized_crop", "random_flip"),
    *("imagenet_policy", "cifar10_policy", "svhn_policy", "randaugment", "randaugment_fixmatch"),
    *("randaugment2", "colorjitter", "randomgrayscale", "gaussian_blur", "cutout", "normalize"),
    *("gaussian_noise", "instance_norm", "center_crop"),
)
_TRANSFORM: Any = Literal.__getitem__(TRANSFORMS)
UNREAD = "not read here (Dassl's semi-supervised datasets)"
NO_HEAD = "not read here (Dassl's CNN classifiers)"


def _train_loader(images: str) -> dict[str, Row]:
    return {
        "SAMPLER": choice(SAMPLERS, f"order of the {images}"),
        "BATCH_SIZE": whole(1, MANY, f"{images} in a batch, of all processes together"),
        "N_DOMAIN": whole(-1, MANY, "RandomDomainSampler: domains in a batch; 0 or less: all"),
        "N_INS": whole(1, MANY, "RandomClassSampler: images of each class in a batch"),
    }


# Section of the config -> its rows.
_SECTIONS: dict[str, dict[str, Row]] = {
    "": {
        "VERSION": whole(1, MANY, "not read here (the version of Dassl's config)"),
        "OUTPUT_DIR": path("folder of log, checkpoints and results"),
        "RESUME": path("folder of a run to resume; empty: OUTPUT_DIR"),
        "SEED": whole(-MANY, 2**32 - 1, "seed of all random numbers; negative: none"),
        "USE_CUDA": flag("use a GPU if there is one"),
        "VERBOSE": flag("print details of trainer and data"),
    },
    "INPUT": {
        "SIZE": Row(
            tuple[_EDGE, _EDGE],
            "two whole numbers (height, width) from 1 to 4,096",
            "height and width of the images in pixels; CLIP takes one size only",
        ),
        "INTERPOLATION": choice(("bilinear", "bicubic", "nearest"), "of resized images"),
        "TRANSFORMS": Row(
            tuple[_TRANSFORM, ...],
            f"a list of {', '.join(TRANSFORMS)}",
            "transforms of training images; their order is fixed",
            TRANSFORMS,
        ),
        "NO_TRANSFORM": flag("use no transform at all; the trainers here need tensors"),
        "PIXEL_MEAN": Row(
            tuple[_CHANNEL, _CHANNEL, _CHANNEL], "three numbers", "normalize: mean of each channel"
        ),
        "PIXEL_STD": Row(
            tuple[_SPREAD, _SPREAD, _SPREAD],
            "three positive numbers",
            "normalize: standard deviation of each channel",
        ),
        "CROP_PADDING": whole(0, 4096, "random_crop: padding in pixels"),
        "RRCROP_SCALE": Row(
            tuple[_SHARE, _SHARE],
            "two numbers a, b with 0 < a <= b <= 1",
            "random_resized_crop: smallest and largest part of the area",
        ),
        "CUTOUT_N": whole(0, 10_000, "cutout: number of holes"),
        "CUTOUT_LEN": whole(0, 4096, "cutout: edge of a hole in pixels"),
        "GN_MEAN": number(-1000, 1000, "gaussian_noise: mean"),
        "GN_STD": number(0, 1000, "gaussian_noise: standard deviation"),
        "RANDAUGMENT_N": whole(0, 100, "randaugment and its variants: operations per image"),
        "RANDAUGMENT_M": whole(0, 30, "randaugment: strength"),
        "COLORJITTER_B": number(0, 100, "colorjitter: brightness"),
        "COLORJITTER_C": number(0, 100, "colorjitter: contrast"),
        "COLORJITTER_S": number(0, 100, "colorjitter: saturation"),
        "COLORJITTER_H": number(0, 0.5, "colorjitter: hue"),
        "RGS_P": number(0, 1, "randomgrayscale: probability"),
        "GB_P": number(0, 1, "gaussian_blur: probability"),
        "GB_K": whole(1, 4095, "gaussian_blur: edge of the kernel in pixels, an odd number"),
    },
    "DATASET": {
        "ROOT": path("folder that contains the datasets"),
        "NAME": text("registered name of the dataset"),
        "SOURCE_DOMAINS": words("domains to train on, for datasets with domains"),
        "TARGET_DOMAINS": words("domains to test on, for datasets with domains"),
        "NUM_LABELED": whole(-1, 10**9, UNREAD),
        "NUM_SHOTS": whole(-1, MANY, "training images of each class; 0 or -1: all"),
        "VAL_PERCENT": number(0, 1, UNREAD),
        "STL10_FOLD": whole(-1, 9, UNREAD),
        "CIFAR_C_TYPE": text(UNREAD),
        "CIFAR_C_LEVEL": whole(1, 5, UNREAD),
        "ALL_AS_UNLABELED": flag(UNREAD),
    },
    "DATALOADER": {
        "NUM_WORKERS": whole(0, 1024, "processes that load images; 0: the main process"),
        "K_TRANSFORMS": whole(
            1, 1000, "transformed copies of each training image; the trainers here take 1"
        ),
        "RETURN_IMG0": flag("also load the images without augmentation"),
        "VIEWS": whole(0, 100_000, "augmented views of each image, in turns; 0: new in each epoch"),
        "FEATURE_STORE": path("folder for the features of frozen image encoders; empty: none"),
    },
    "DATALOADER.TRAIN_X": _train_loader("labeled images"),
    "DATALOADER.TRAIN_U": {
        "SAME_AS_X": flag("load unlabeled images as TRAIN_X says"),
        **_train_loader("unlabeled images"),
    },
    "DATALOADER.TEST": {
        "SAMPLER": choice(SAMPLERS, "order of the val and test images"),
        "BATCH_SIZE": whole(1, MANY, "val and test images in a batch"),
    },
    "MODEL": {"INIT_WEIGHTS": path("file of weights to start the training from; empty: none")},
    "MODEL.BACKBONE": {
        "NAME": text("CLIP by name or path"),
        "PRETRAINED": flag(NO_HEAD),
    },
    "MODEL.HEAD": {
        "NAME": text(NO_HEAD),
        "HIDDEN_LAYERS": Row(
            tuple[Annotated[int, Meta(ge=1, le=MANY)], ...], "a list of positive numbers", NO_HEAD
        ),
        "ACTIVATION": text(NO_HEAD),
        "BN": flag(NO_HEAD),
        "DROPOUT": number(0, 1, NO_HEAD),
    },
    "OPTIM": {
        "NAME": choice(("sgd", "adam", "amsgrad", "adamw", "radam", "rmsprop"), "optimizer"),
        "LR": number(0, MANY, "learning rate after the warm-up"),
        "WEIGHT_DECAY": number(0, MANY, "weight decay"),
        "MOMENTUM": below_1("sgd, rmsprop: momentum"),
        "SGD_DAMPNING": number(0, 1, "sgd: dampening of the momentum"),
        "SGD_NESTEROV": flag("sgd: Nesterov's momentum"),
        "RMSPROP_ALPHA": below_1("rmsprop: smoothing"),
        "ADAM_BETA1": below_1("adam, amsgrad, adamw, radam: decay of the first moment"),
        "ADAM_BETA2": below_1("adam, amsgrad, adamw, radam: decay of the second moment"),
        "ADAM_EPS": number(0, 1, "adam, amsgrad, adamw, radam: added to the divisor of a step"),
        "STAGED_LR": flag("layers other than NEW_LAYERS learn with LR x BASE_LR_MULT"),
        "NEW_LAYERS": Row(tuple[str, ...] | str, "a list of names", "STAGED_LR: the new layers"),
        "BASE_LR_MULT": number(0, MANY, "STAGED_LR: factor of the other layers"),
        "LR_SCHEDULER": choice(("single_step", "multi_step", "cosine"), "learning rate schedule"),
        "STEPSIZE": Row(
            tuple[_EPOCH, ...] | _EPOCH,
            "a list of whole numbers from -1 to 1,000,000",
            "epochs: multi_step's milestones; the last is single_step's period (0, -1: MAX_EPOCH)",
        ),
        "GAMMA": number(0, 10, "single_step, multi_step: factor of the learning rate"),
        "MAX_EPOCH": whole(1, MANY, "epochs"),
        "WARMUP_EPOCH": whole(-1, MANY, "epochs of the warm-up, at most MAX_EPOCH; 0 or -1: none"),
        "WARMUP_TYPE": choice(("linear", "constant"), "warm-up of the learning rate"),
        "WARMUP_CONS_LR": number(0, MANY, "constant: learning rate of the warm-up"),
        "WARMUP_MIN_LR": number(0, MANY, "linear: learning rate of the first epoch"),
        "WARMUP_RECOUNT": flag("count the schedule's epochs from the end of the warm-up"),
    },
    "TRAIN": {
        "CHECKPOINT_FREQ": whole(-1, MANY, "epochs between checkpoints; 0 or -1: only the last"),
        "PRINT_FREQ": whole(1, 10**9, "batches between the lines of the log"),
        "COUNT_ITER": choice(
            ("train_x", "train_u", "smaller_one"), "loader whose length is an epoch"
        ),
    },
    "TEST": {
        "EVALUATOR": text("registered name of the evaluator"),
        "PER_CLASS_RESULT": flag("also report the accuracy of each class"),
        "COMPUTE_CMAT": flag("write the confusion matrix to OUTPUT_DIR"),
        "NO_TEST": flag("do not test after training"),
        "SPLIT": choice(("test", "val"), "split of the final test"),
        "FINAL_MODEL": choice(
            ("last_step", "last_val", "best_val"),
            "test the last epoch (last_step, or its old name last_val), or the best one on val",
        ),
        "SELECT_ON_TEST": flag("let best_val select on test images if there are no val images"),
    },
    "TRAINER": {"NAME": text("registered name of the trainer")},
}
ROWS = {
    f"{section}.{key}" if section else key: row
    for section, rows in _SECTIONS.items()
    for key, row in rows.items()
}


def check_rows(cfg: CfgNode, rows: Mapping[str, Row] = ROWS) -> None:
    """Raise UsageError for the first value of a config that its row does not allow."""
    for key, value in leaves(cfg):
        if key in rows:
            check_value(key, value, rows[key])
        elif isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{key} must be a finite number, got {value!r}")
        if isinstance(value, str) and "\0" in value:
            raise UsageError(f"{key} must be text without NUL characters, got {value!r}")


def check_value(key: str, value: Any, row: Row) -> None:
    """Raise UsageError unless ``row`` allows ``value`` for ``key``."""
    try:
        msgspec.convert(value, row.kind)
    except msgspec.ValidationError:
        given = list(value) if isinstance(value, list | tuple) else [value]
        unknown = [item for item in given if isinstance(item, str) and item not in row.names]
        if row.names and unknown:
            problem = f"{key} {unknown[0]!r} is unknown: {nearest(unknown[0], row.names)}"
            raise UsageError(problem) from None
        raise UsageError(f"{key} must be {row.allowed}, got {value!r}") from None


def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of every setting in a config, such as ("OPTIM.LR", 0.002)."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def expand_paths(cfg: CfgNode, rows: Mapping[str, Any] = ROWS) -> None:
    """Replace a leading ``~`` in the paths of a config that is not frozen by the home folder."""
    for key, value in list(leaves(cfg)):
        if key in rows and rows[key].allowed == "a path" and value:
            *sections, leaf = key.split(".")
            node = cfg
            for section in sections:
                node = node[section]
            node[leaf] = str(Path(value).expanduser()) if value.startswith("~") else value
