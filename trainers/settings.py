"""The trainers' config nodes, their defaults and the names that the authors' release uses.

``extend_cfg`` adds the nodes to a Dassl config (train.py calls it). In a code base whose train.py
does not, `node` supplies the same defaults, so a trainer file runs either way.
"""

import difflib
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from yacs.config import CfgNode

__all__ = [
    "RefinerSettings",
    "SettingsError",
    "add_node",
    "extend_cfg",
    "map_release_keys",
    "node",
]

PRECISIONS = ("fp32", "amp", "bf16", "fp16")


# TRAINER.TF key of the release -> key of TRAINER.TEXTREFINER
RELEASE_KEYS = {
    "MEMORY_SIZE": "CACHE_SIZE",
    "ALPHA": "ALPHA",
    "BALANCE": "LOCAL_WEIGHT",
    "DISTILL": "REG_WEIGHT",
}


class SettingsError(ValueError):
    """A setting that cannot work; the message is one sentence for the user."""


_DEEP_PROMPTS: dict[str, Any] = {
    "N_CTX_VISION": 4,
    "N_CTX_TEXT": 4,
    "CTX_INIT": "a photo of a",
    "PREC": "fp16",
    "PROMPT_DEPTH_VISION": 9,
    "PROMPT_DEPTH_TEXT": 9,
}

# The family's nodes, as its public code defines them: for the trainers here and for a trainer file
# of the family that is dropped in. A new learner adds its own with `add_node`.
DEFAULTS: dict[str, dict[str, Any]] = {
    "COOP": {
        "N_CTX": 16,
        "CSC": False,  # class-specific contexts
        "CTX_INIT": "",
        "PREC": "fp16",
        "CLASS_TOKEN_POSITION": "end",  # end, middle, front
    },
    "COCOOP": {
        "N_CTX": 16,
        "CTX_INIT": "",
        "PREC": "fp16",
        "MAX_PROMPTS": 0,  # images x classes in the text tower at once; 0: as TEXT_CHUNK says
    },
    "MAPLE": {"N_CTX": 2, "CTX_INIT": "a photo of a", "PREC": "fp16", "PROMPT_DEPTH": 9},
    "PROMPTSRC": {
        **_DEEP_PROMPTS,
        "TEXT_LOSS_WEIGHT": 25,
        "IMAGE_LOSS_WEIGHT": 10,
        "GPA_MEAN": 15,
        "GPA_STD": 1,
    },
    "PROMPTKD": {
        **_DEEP_PROMPTS,
        "TEACHER_NAME": "ViT-L/14",
        "TEACHER_WEIGHTS": "",  # a checkpoint file of PromptSRC; "": where PromptKD's code looks
        "PROJECT_LAYER": 2,
        "CE_WEIGHT": 0.0,
        "KD_WEIGHT": 1.0,
        "TEMPERATURE": 1.0,
        # Of the refiner's losses, relative to KD_WEIGHT; in place of TEXTREFINER's.
        "LOCAL_WEIGHT": 0.01,
        "REG_WEIGHT": 0.02,
    },
    "TEXTREFINER": {
        "CACHE_SIZE": 25,
        "MOMENTUM": 0.8,
        "ALPHA": 0.2,
        "TOPK": 5,
        "LOCAL_WEIGHT": 0.02,
        "REG_WEIGHT": 20.0,
        "CACHE": True,  # False: text reads zeros, nothing is written
        "LOCAL": True,  # False: no semantic loss on local tokens
        "REG": True,  # False: no regularizer
    },
    # The release's names; None is "not given". map_release_keys maps them onto TEXTREFINER.
    "TF": dict.fromkeys(RELEASE_KEYS),
}


def add_node(name: str, defaults: dict[str, Any]) -> None:
    """Declare cfg.TRAINER.<name> for a new learner, with its defaults (PREC among them)."""
    DEFAULTS[name] = defaults


def extend_cfg(cfg: CfgNode) -> None:
    """Add this family's keys to a Dassl config: TRAINER.{COOP,...}, TRAINER.{MODAL,TEXT_CHUNK},
    DATASET.{SUBSAMPLE_CLASSES,DISTILL_ON} and MODEL_DIR.

    Keys that are already there are left alone, so a CoOp train.py may have added its own.
    """
    for name, values in DEFAULTS.items():
        if name not in cfg.TRAINER:
            cfg.TRAINER[name] = CfgNode()
        for key, value in values.items():
            if key not in cfg.TRAINER[name]:
                cfg.TRAINER[name][key] = value
    if "COMPILE" not in cfg.TRAINER:
        cfg.TRAINER.COMPILE = False  # True: the towers run through torch.compile
    if "MODAL" not in cfg.TRAINER:
        cfg.TRAINER.MODAL = "base2novel"  # or cross: the protocol of PromptSRC and PromptKD
    if "TEXT_CHUNK" not in cfg.TRAINER:
        cfg.TRAINER.TEXT_CHUNK = 0  # prompts in the text tower at once; 0: from the free memory
    if "SUBSAMPLE_CLASSES" not in cfg.DATASET:
        cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base, new
    if "MODEL_DIR" not in cfg:
        cfg.MODEL_DIR = ""  # --model-dir: the folder of the model that is tested
    if "DISTILL_ON" not in cfg.DATASET:
        cfg.DATASET.DISTILL_ON = ""  # few_shot, all: which images a trainer without labels sees


def node(cfg: CfgNode, name: str) -> CfgNode:
    """cfg.TRAINER.<name>, with the defaults for every key that the config does not hold."""
    merged = CfgNode(DEFAULTS[name])
    merged.update(cfg.TRAINER.get(name, {}))
    return merged


class MappedKey(NamedTuple):
    """A value of TRAINER.TF that moved to TRAINER.TEXTREFINER.<target>."""

    key: str
    given: float
    target: str
    value: float

    def line(self, cfg: CfgNode) -> str:
        """For the log, when ``cfg`` is complete."""
        final = cfg.TRAINER.TEXTREFINER[self.target]
        line = f"TRAINER.TF.{self.key} {self.given} sets TRAINER.TEXTREFINER.{self.target}"
        later = "" if final == self.value else f", a later setting makes it {final:g}"
        return f"{line} {self.value:g}{later}"


def map_release_keys(cfg: CfgNode) -> list[MappedKey]:
    """Move TRAINER.TF values onto TRAINER.TEXTREFINER, and return what was moved.

    BALANCE (--loss-factor) divides the local loss, so LOCAL_WEIGHT is its inverse.

    Raises:
        SettingsError: a value is no number, or BALANCE is not positive.
    """
    given = {key: value for key, value in cfg.TRAINER.TF.items() if value is not None}
    adopted = []
    for key, value in given.items():
        kinds = (int,) if key == "MEMORY_SIZE" else (int, float)
        number = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
        if not number:
            kind = "whole number" if key == "MEMORY_SIZE" else "finite number"
            raise SettingsError(f"TRAINER.TF.{key} must be a {kind}, got {value!r}")
        if key == "BALANCE" and not value > 0:
            raise SettingsError(
                f"TRAINER.TF.BALANCE (--loss-factor) divides the local loss and must be > 0, got "
                f"{value}; to leave the loss out set TRAINER.TEXTREFINER.LOCAL False"
            )
        target = RELEASE_KEYS[key]
        new = 1.0 / value if key == "BALANCE" else value
        if target != "CACHE_SIZE":
            new = float(new)
        cfg.TRAINER.TEXTREFINER[target] = new
        cfg.TRAINER.TF[key] = None
        adopted.append(MappedKey(key, value, target, new))
    return adopted


@dataclass(frozen=True)
class RefinerSettings:
    """cfg.TRAINER.TEXTREFINER, checked. Field meanings: docs/method.md."""

    cache_size: int
    momentum: float
    alpha: float
    topk: int
    local_weight: float
    reg_weight: float
    cache: bool
    local: bool
    reg: bool

    @classmethod
    def from_cfg(cls, cfg: CfgNode, learner: str) -> "RefinerSettings":
        """Read and check the node; weights that the learner's node has are taken from there.

        Raises:
            SettingsError: a value outside its range, or a weight set where it is not read.
        """
        values, own = node(cfg, "TEXTREFINER"), node(cfg, learner)
        for key in ("LOCAL_WEIGHT", "REG_WEIGHT"):
            if key not in own:
                continue
            if values[key] != DEFAULTS["TEXTREFINER"][key]:
                raise SettingsError(
                    f"TRAINER.TEXTREFINER.{key} {values[key]} is not read with {learner}, whose "
                    f"task has another scale: set TRAINER.{learner}.{key}"
                )
            values[key] = own[key]
        settings = cls(**{key.lower(): value for key, value in values.items()})
        settings.check()
        return settings

    def check(self) -> None:
        """Raise SettingsError for a value outside its range."""
        bounds = {
            "CACHE_SIZE": (self.cache_size, 0, math.inf),
            "MOMENTUM": (self.momentum, 0, 1),
            "ALPHA": (self.alpha, -math.inf, math.inf),
            "TOPK": (self.topk, 0, math.inf),
            "LOCAL_WEIGHT": (self.local_weight, 0, math.inf),
            "REG_WEIGHT": (self.reg_weight, 0, math.inf),
        }
        for key, (value, low, high) in bounds.items():
            number = isinstance(value, (int, float)) and math.isfinite(value)
            if not (number and low <= value <= high):
                raise SettingsError(
                    f"TRAINER.TEXTREFINER.{key} must be a finite number in [{low}, {high}], "
                    f"got {value}"
                )

    @property
    def needs_tokens(self) -> bool:
        """Whether training looks at local image tokens at all."""
        return self.local or (self.cache and self.cache_size > 0)


def text_chunk(cfg: CfgNode, learner: str) -> tuple[int, str]:
    """How many prompts may be in the text tower at once, 0 for automatic; the key that says so.

    MAX_PROMPTS of the learner's own node comes before TRAINER.TEXT_CHUNK.

    Raises:
        SettingsError: a value that is no number of prompts.
    """
    found = {
        f"TRAINER.{learner}.MAX_PROMPTS": node(cfg, learner).get("MAX_PROMPTS", 0),
        "TRAINER.TEXT_CHUNK": cfg.TRAINER.get("TEXT_CHUNK", 0),  # unknown to other code bases
    }
    for key, chunk in found.items():
        if chunk < 0:
            raise SettingsError(
                f"{key} must be a number of prompts (classes, in CoCoOp images x classes), or 0 to "
                f"choose it from the free memory, got {chunk}"
            )
    return next(((chunk, key) for key, chunk in found.items() if chunk), (0, "TRAINER.TEXT_CHUNK"))


def check_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise SettingsError unless ``value`` is one of ``allowed``; name the nearest."""
    if value in allowed:
        return
    near = difflib.get_close_matches(str(value), allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise SettingsError(f"{key} must be one of {', '.join(allowed)}, got {value!r}{hint}")


def check_images(cfg: CfgNode, distils: bool) -> None:
    """Raise SettingsError where DATASET.DISTILL_ON does not suit a trainer.

    ``distils`` says that it trains without labels: then the choice must be made by name, because
    results with and without images of the test's classes are not comparable.
    """
    choice = cfg.DATASET.get("DISTILL_ON", "few_shot")  # a code base that does not know the key
    if distils and not choice:
        raise SettingsError(
            f"{cfg.TRAINER.NAME} learns from unlabeled images: say which with DATASET.DISTILL_ON, "
            "all (images of all classes, PromptKD's protocol) or few_shot (those of NUM_SHOTS and "
            "SUBSAMPLE_CLASSES)"
        )
    if choice == "all" and not distils:
        raise SettingsError(
            f"DATASET.DISTILL_ON all is for trainers without labels, {cfg.TRAINER.NAME} learns "
            "from labels or not at all: leave it out"
        )
