"""The trainers' config nodes, their defaults, and the names of the authors' release.

train.py calls ``extend_cfg`` to add the nodes to a Dassl config. Where it is not called, as in a
CoOp checkout, `node` provides the same defaults.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from yacs.config import CfgNode

from . import losses, refiner
from .refiner_controls import Controls
from .rows import ROWS, SHARED, Row

__all__ = [
    "RefinerSettings",
    "SettingsError",
    "add_node",
    "check_rows",
    "extend_cfg",
    "map_release_keys",
    "node",
]

# TRAINER.TF key of the release -> key of TRAINER.TEXTREFINER
RELEASE_KEYS = {
    "MEMORY_SIZE": "CACHE_SIZE",
    "ALPHA": "ALPHA",
    "BALANCE": "LOCAL_WEIGHT",
    "DISTILL": "REG_WEIGHT",
}


class SettingsError(ValueError):
    """An invalid setting or file; the message is one sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class RefinerSettings:
    """cfg.TRAINER.TEXTREFINER, whose keys are these fields (docs/method.md describes them).

    The switches are aliases: ``cache=False`` is ``cache_size=0``, ``local=False`` is
    ``local_weight=0`` and ``reg=False`` is ``reg_weight=0``. A loss of weight 0 is not computed.
    Values outside their range raise SettingsError.
    """

    cache_size: int = refiner.CACHE_SIZE
    momentum: float = refiner.MOMENTUM
    alpha: float = refiner.ALPHA
    topk: int = losses.TOPK
    local_weight: float = 0.02  # of the semantic loss on local tokens
    reg_weight: float = 20.0  # of the regularizer
    cache: bool = True
    local: bool = True
    reg: bool = True
    # Controls, described in refiner_controls.py.
    read_scale: float = refiner.READ_SCALE
    read: str = Controls.read
    aggregate: str = Controls.aggregate
    rank: int = Controls.rank
    zero_start: bool = Controls.zero_start
    renormalize: bool = Controls.renormalize
    freeze_align: bool = False
    local_on: str = "tokens"

    def __post_init__(self) -> None:
        for field in fields(self):
            check_value(f"TRAINER.TEXTREFINER.{field.name.upper()}", getattr(self, field.name))
        for switch, name in _SWITCHES.items():
            if not getattr(self, switch):
                object.__setattr__(self, name, 0)
        self._check_controls()

    def _check_controls(self) -> None:
        """Raise SettingsError for a control of a part that the other settings leave out."""
        changed = [name for name in _CONTROLS if getattr(self, name) != _default(name)]
        for name in changed:
            reason = self._reason_against(name)
            if reason:
                raise SettingsError(
                    f"TRAINER.TEXTREFINER.{name.upper()} {getattr(self, name)} has no effect: "
                    f"{reason}"
                )
        if self.aggregate == "text" and self.cache_size > 0:
            raise SettingsError(
                "TRAINER.TEXTREFINER.AGGREGATE text leaves the read out, but the cache has "
                f"{self.cache_size} entries: set CACHE False"
            )

    def _reason_against(self, name: str) -> str:
        """Return why the control ``name`` would change nothing, and the remedy; "" if it would."""
        own = f"leave {name.upper()} out"
        if name not in ("freeze_align", "local_on") and self.alpha == 0:
            return f"with ALPHA 0 nothing is aggregated: set another ALPHA, or {own}"
        if name in ("read", "read_scale") and self.cache_size < 2:
            return f"with CACHE_SIZE {self.cache_size} all classes read the same: {own}"
        if name == "aggregate" and self.aggregate == "read" and self.cache_size == 0:
            return f"without a cache the read is zero: set CACHE_SIZE, or {own}"
        if name in ("freeze_align", "local_on") and self.local_weight == 0:
            return f"with LOCAL_WEIGHT 0 there is no semantic loss: {own}"
        if name == "freeze_align" and self.local_on == "global":
            return f"with LOCAL_ON global nothing trains h: {own}"
        return ""

    @classmethod
    def from_cfg(cls, cfg: CfgNode, learner: str) -> "RefinerSettings":
        """Read the node; the learner's own node replaces the weights if it has both of them.

        Raises SettingsError for a value outside its range, or a weight that is not used.
        """
        values, own = node(cfg, "TEXTREFINER"), node(cfg, learner)
        weights = ("LOCAL_WEIGHT", "REG_WEIGHT")
        # A lone REG_WEIGHT, as MMRL has it, weights a loss of the learner.
        for key in weights if all(key in own for key in weights) else ():
            if values[key] != DEFAULTS["TEXTREFINER"][key]:
                raise SettingsError(
                    f"TRAINER.TEXTREFINER.{key} {values[key]} is not used with {learner}, whose "
                    f"losses have another scale: set TRAINER.{learner}.{key}"
                )
            values[key] = own[key]
        return cls(**{key.lower(): value for key, value in values.items()})

    @property
    def controls(self) -> Controls:
        """The replaced parts of the refiner."""
        return Controls(**{field.name: getattr(self, field.name) for field in fields(Controls)})

    @property
    def trains_on_tokens(self) -> bool:
        """Whether the semantic loss is computed on local image tokens."""
        return self.local_weight > 0 and self.local_on == "tokens"

    @property
    def needs_tokens(self) -> bool:
        """Whether training uses local image tokens."""
        return self.trains_on_tokens or self.cache_size > 0


_CONTROLS = (
    "read_scale",
    "freeze_align",
    "local_on",
    *(field.name for field in fields(Controls)),
)


def _default(name: str) -> Any:
    return getattr(RefinerSettings, name)


_SWITCHES = {"cache": "cache_size", "local": "local_weight", "reg": "reg_weight"}

_DEEP_PROMPTS: dict[str, Any] = {
    "N_CTX_VISION": 4,
    "N_CTX_TEXT": 4,
    "CTX_INIT": "a photo of a",
    "PREC": "fp16",
    "PROMPT_DEPTH_VISION": 9,
    "PROMPT_DEPTH_TEXT": 9,
}

# The family's nodes, as its public code defines them, also for trainer files of the family that are
# dropped in. A new learner adds its own with `add_node`.
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
        "MAX_PROMPTS": 0,  # images x classes in the text encoder at once; 0: TEXT_CHUNK
    },
    "KGCOOP": {"N_CTX": 4, "CTX_INIT": "a photo of a", "PREC": "fp16", "WEIGHT": 8.0},
    "TCP": {"N_CTX": 4, "CTX_INIT": "", "PREC": "fp16", "WEIGHT": 8.0, "LAYER": 8},
    "ATPROMPT": {
        "N_CTX": 2,
        "N_ATT": 2,
        "ATTRIBUTES": ["color", "shape"],  # ImageNet's; configs/protocols.yaml has all
        "PREC": "fp16",
        "WEIGHT": 0.0,  # of KgCoOp's loss
    },
    "MAPLE": {"N_CTX": 2, "CTX_INIT": "a photo of a", "PREC": "fp16", "PROMPT_DEPTH": 9},
    "PROMPTSRC": {
        **_DEEP_PROMPTS,
        "TEXT_LOSS_WEIGHT": 25,
        "IMAGE_LOSS_WEIGHT": 10,
        "GPA_MEAN": 15,
        "GPA_STD": 1,
    },
    "MMRL": {
        "PREC": "fp16",
        "N_REP_TOKENS": 5,
        "REP_DIM": 512,
        "REP_LAYERS": [6, 7, 8, 9, 10, 11, 12],
        "SCALE": 0.7,
        "REG_WEIGHT": 1.0,
    },
    "CLIPADAPTER": {"PREC": "fp16", "REDUCTION": 4, "RATIO": 0.2},
    "TaskRes": {"PREC": "fp16", "RESIDUAL_SCALE": 0.5},
    "PROMPTKD": {
        **_DEEP_PROMPTS,
        "TEACHER_NAME": "ViT-L/14",
        "TEACHER_WEIGHTS": "",  # a checkpoint file of PromptSRC; "": PromptKD's default path
        "PROJECT_LAYER": 2,
        "CE_WEIGHT": 0.0,
        "KD_WEIGHT": 1.0,
        "TEMPERATURE": 1.0,
        # Of the refiner's losses, relative to KD_WEIGHT; they replace those of TEXTREFINER.
        "LOCAL_WEIGHT": 0.01,
        "REG_WEIGHT": 0.02,
    },
    "TEXTREFINER": {field.name.upper(): field.default for field in fields(RefinerSettings)},
    # The release's names, None if not given; map_release_keys maps them to TEXTREFINER.
    "TF": dict.fromkeys(RELEASE_KEYS),
}


def add_node(name: str, defaults: dict[str, Any], rows: Mapping[str, Row] = {}) -> None:
    """Declare cfg.TRAINER.<name> for a new learner, with its defaults, including PREC.

    ``rows`` describe what its keys may be, as in rows.py; N_CTX, CTX_INIT, PREC and MAX_PROMPTS
    have rows that all learners share.
    """
    DEFAULTS[name] = defaults
    shared = {key: row for key, row in SHARED.items() if key in defaults}
    ROWS.update({f"TRAINER.{name}.{key}": row for key, row in {**shared, **rows}.items()})


def extend_cfg(cfg: CfgNode) -> None:
    """Add this family's keys to a Dassl config: TRAINER.{COOP,...}, TRAINER.{MODAL,TEXT_CHUNK},
    DATASET.{SUBSAMPLE_CLASSES,DISTILL_ON} and MODEL_DIR.

    Existing keys are kept, because the train.py of a CoOp checkout adds some of them.
    """
    for name, values in DEFAULTS.items():
        if name not in cfg.TRAINER:
            cfg.TRAINER[name] = CfgNode()
        _add_missing(cfg.TRAINER[name], values)
    _add_missing(cfg.TRAINER, _TRAINER_KEYS)
    _add_missing(cfg.DATASET, _DATASET_KEYS)
    _add_missing(cfg, {"MODEL_DIR": ""})  # --model-dir: the folder of the model to test


_TRAINER_KEYS = {
    "COMPILE": False,  # run the encoders through torch.compile
    "MODAL": "base2novel",  # or cross: the protocol of PromptSRC and PromptKD
    "TEXT_CHUNK": 0,  # prompts in the text encoder at once; 0: chosen from the free memory
}
_DATASET_KEYS = {
    "SUBSAMPLE_CLASSES": "all",  # all, base, new
    "DISTILL_ON": "",  # few_shot, all: the images of a trainer without labels
}


def _add_missing(cfg: CfgNode, values: dict[str, Any]) -> None:
    for key, value in values.items():
        if key not in cfg:
            cfg[key] = value


def node(cfg: CfgNode, name: str) -> CfgNode:
    """Return cfg.TRAINER.<name>, with defaults for missing keys."""
    merged = CfgNode(DEFAULTS[name])
    merged.update(cfg.TRAINER.get(name, {}))
    return merged


class MappedKey(NamedTuple):
    """A value of TRAINER.TF that was mapped to TRAINER.TEXTREFINER.<target>."""

    key: str
    given: float
    target: str
    value: float

    def line(self, cfg: CfgNode) -> str:
        """Return the line for the log, once ``cfg`` is complete."""
        final = cfg.TRAINER.TEXTREFINER[self.target]
        line = f"TRAINER.TF.{self.key} {self.given} sets TRAINER.TEXTREFINER.{self.target}"
        later = "" if final == self.value else f", a later setting makes it {final:g}"
        return f"{line} {self.value:g}{later}"


def map_release_keys(cfg: CfgNode) -> list[MappedKey]:
    """Map TRAINER.TF values to TRAINER.TEXTREFINER, and return the mapped keys.

    BALANCE (--loss-factor) divides the local loss, so LOCAL_WEIGHT is its inverse.
    """
    mapped = []
    for key, value in list(cfg.TRAINER.TF.items()):
        if value is None:
            continue
        if key == "BALANCE" and isinstance(value, (int, float)) and value <= 0:
            raise SettingsError(
                f"TRAINER.TF.BALANCE (--loss-factor) divides the local loss and must be > 0, got "
                f"{value}; set TRAINER.TEXTREFINER.LOCAL False to leave the loss out"
            )
        check_value(f"TRAINER.TF.{key}", value)
        target = RELEASE_KEYS[key]
        new = 1.0 / value if key == "BALANCE" else value
        if target != "CACHE_SIZE":
            new = float(new)
        cfg.TRAINER.TEXTREFINER[target] = new
        cfg.TRAINER.TF[key] = None
        mapped.append(MappedKey(key, value, target, new))
    return mapped


def text_chunk(cfg: CfgNode, learner: str) -> tuple[int, str]:
    """Return the limit of prompts in the text encoder at once, 0 for automatic, and its key.

    MAX_PROMPTS of the learner's node takes precedence over TRAINER.TEXT_CHUNK.
    """
    found = {
        f"TRAINER.{learner}.MAX_PROMPTS": node(cfg, learner).get("MAX_PROMPTS", 0),
        "TRAINER.TEXT_CHUNK": cfg.TRAINER.get("TEXT_CHUNK", 0),  # unknown to other code bases
    }
    return next(((chunk, key) for key, chunk in found.items() if chunk), (0, "TRAINER.TEXT_CHUNK"))


def check_rows(cfg: CfgNode) -> None:
    """Raise SettingsError for the first value in ``cfg`` that its row in `ROWS` does not allow."""
    for key in ROWS:
        for value in _values(cfg, key):
            check_value(key, value)


def _values(cfg: CfgNode, key: str) -> Iterator[Any]:
    """Yield the value of ``key``, if ``cfg`` has it; other code bases lack some keys."""
    *sections, leaf = key.split(".")
    for section in sections:
        cfg = cfg.get(section, {})
    if leaf in cfg:
        yield cfg[leaf]


def check_value(key: str, value: Any) -> None:
    """Raise SettingsError unless the row of ``key`` allows ``value``."""
    row = ROWS[key]
    if row.names:
        check_choice(key, value, row.names)
        return
    try:
        msgspec.convert(value, row.kind)
    except msgspec.ValidationError:
        raise SettingsError(f"{key} must be {row.allowed}, got {value!r}") from None


def check_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise SettingsError with the nearest name unless ``value`` is one of ``allowed``."""
    if value in allowed:
        return
    near = difflib.get_close_matches(str(value), allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    names = ", ".join(name or "empty" for name in allowed)
    raise SettingsError(f"{key} must be one of {names}, got {value!r}{hint}")


def check_inputs(cfg: CfgNode) -> None:
    """Raise SettingsError for settings of Dassl's data loaders that no trainer here can use."""
    if cfg.INPUT.get("NO_TRANSFORM", False):
        raise SettingsError(
            "INPUT.NO_TRANSFORM True leaves images that are no tensors: set it to False"
        )
    copies = cfg.DATALOADER.get("K_TRANSFORMS", 1)
    if copies != 1:
        raise SettingsError(
            f"DATALOADER.K_TRANSFORMS is {copies}, but {cfg.TRAINER.NAME} learns from one copy of "
            "each image: set it to 1"
        )
    store = cfg.DATALOADER.get("FEATURE_STORE", "")  # the original has no such key
    for folder in [Path(store), *Path(store).parents] if store else []:
        if folder.exists() and not folder.is_dir():
            raise SettingsError(
                f"DATALOADER.FEATURE_STORE is {store!r}, but {str(folder)!r} is a file: choose a "
                "folder"
            )


def check_images(cfg: CfgNode, distils: bool) -> None:
    """Raise SettingsError if DATASET.DISTILL_ON is not valid for a trainer.

    A trainer that ``distils`` trains without labels and requires an explicit choice, because
    results with and without images of the test classes are not comparable.
    """
    choice = cfg.DATASET.get("DISTILL_ON", "few_shot")  # a code base that does not know the key
    if distils and not choice:
        raise SettingsError(
            f"{cfg.TRAINER.NAME} learns from unlabeled images: set DATASET.DISTILL_ON to all "
            "(images of all classes, PromptKD's protocol) or few_shot (those of NUM_SHOTS and "
            "SUBSAMPLE_CLASSES)"
        )
    if choice == "all" and not distils:
        raise SettingsError(
            f"DATASET.DISTILL_ON all is for trainers without labels, which {cfg.TRAINER.NAME} is "
            "not: leave it out"
        )
