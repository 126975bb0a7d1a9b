"""Build the model of a run from its record: no config file, data set or teacher is needed."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn
from yacs.config import CfgNode

from clip import clip
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY

from ..backbone import MEANINGS, load_clip
from ..learner import PromptLearner
from ..settings import DEFAULTS, SettingsError, check_choice, extend_cfg, node
from ..trainer import PromptTrainer, RefinedCLIP
from ..zsclip import ZeroshotCLIP, template_features
from .recorded import Recorded
from .shapes import shape_settings

__all__ = ["Builder", "config_of"]

# What decides the result for an image; other settings are of training or speed.
DECIDING = ("TRAINER.", "INPUT.", "DATASET.NAME")
IMAGES = ("SIZE", "INTERPOLATION", "TRANSFORMS", "PIXEL_MEAN", "PIXEL_STD")  # of INPUT


Side = Annotated[int, Meta(ge=1, le=10_000)]
Mean = Annotated[float, Meta(ge=-1000, le=1000)]
Std = Annotated[float, Meta(gt=0, le=1000)]


class _Inputs(msgspec.Struct):
    """What the transform of test images uses of INPUT."""

    SIZE: tuple[Side, Side]
    INTERPOLATION: str
    TRANSFORMS: list[str]
    PIXEL_MEAN: tuple[Mean, Mean, Mean]
    PIXEL_STD: tuple[Std, Std, Std]


class FixedText(PromptLearner):
    """Zero-shot CLIP as a learner without trained modules: hand-written prompts."""

    def __init__(self, clip_model: Any, templates: Sequence[str], names: Sequence[str]) -> None:
        super().__init__(clip_model)
        self.text: Tensor
        features = template_features(clip_model, templates, names)
        self.register_buffer("text", features, persistent=False)

    @property
    def trainable_modules(self) -> Mapping[str, nn.Module]:
        """Nothing."""
        return {}

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """Return text features (C, d)."""
        return self.text


def trainer_class(method: str) -> Any:
    """Return a method's trainer; raise SettingsError if it cannot be built without its data."""
    check_choice("the method of the run", method, tuple(TRAINER_REGISTRY.registered_names()))
    kind: Any = TRAINER_REGISTRY.get(method)
    if not issubclass(kind, (PromptTrainer, ZeroshotCLIP)):
        raise SettingsError(
            f"{method} is a trainer of other code: only trainers derived from "
            "trainers.trainer.PromptTrainer can be loaded without their data"
        )
    return kind


class Builder:
    """The trainer of a run without its data: `build` makes its model for any class names.

    Args:
        cfg: from `config_of`.
        device: of the models.
    """

    def __init__(self, cfg: CfgNode, device: torch.device) -> None:
        kind = trainer_class(cfg.TRAINER.NAME)
        # Its constructor would build data loaders.
        self.trainer: Any = kind.__new__(kind)
        self.trainer.cfg, self.trainer.device = cfg, device
        self.trainer.check_cfg(cfg)
        self.zero_shot = issubclass(kind, ZeroshotCLIP)
        self.cfg = cfg
        self.device = device
        self.precision = ""
        self.trained_names: Sequence[str] | None = None  # the classes of the training; None: any

    def load_clip(self, precision: str | None) -> Any:
        """Load the backbone in ``precision``, by default that of the run, on the device."""
        if precision is None and self.zero_shot:
            precision = "fp16" if self.device.type == "cuda" else "fp32"
        elif precision is None:
            precision = node(self.cfg, self.trainer.config_node).PREC
        check_choice("precision", precision, tuple(MEANINGS))
        clip_model, self.precision = load_clip(self.cfg, precision, self.device)
        return clip_model.to(self.device)

    def build(self, clip_model: Any, classnames: Sequence[str]) -> RefinedCLIP:
        """Return an untrained model in eval mode; the global random state remains as it was."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            if self.zero_shot:
                learner = FixedText(clip_model, self.trainer.templates(), classnames)
                model = RefinedCLIP(learner).to(self.device)
            else:
                model = self.trainer.build_network(clip_model, list(classnames))
        if self.trained_names is not None:
            model.learner.trained_classes = list(classnames) == list(self.trained_names)
        return model.requires_grad_(False).eval()


def config_of(
    recorded: Recorded, backbone: str, more: Mapping[str, Any]
) -> tuple[CfgNode, list[str]]:
    """Return the run's config as far as it decides the result for an image, and notes.

    ``more`` are settings that replace those of the folder. A note names what is not recorded, and
    what is used instead.
    """
    cfg = get_cfg_default()
    extend_cfg(cfg)
    settings, notes = {**shape_settings(recorded), **recorded.settings}, []
    for key, value in settings.items():
        if key.startswith(DECIDING):
            _set(cfg, key, value, f"the run in {recorded.folder}")
    for key, value in more.items():
        if not key.startswith(DECIDING):
            raise SettingsError(
                f"settings has {key}, which does not change a trained model: give keys of TRAINER, "
                "INPUT or DATASET.NAME"
            )
        _set(cfg, key, value, "settings")
    cfg.TRAINER.NAME = recorded.method
    cfg.MODEL.BACKBONE.NAME = backbone
    cfg.MODEL_DIR = recorded.folder  # PromptKD finds the teacher's text features there
    cfg.TRAINER.COMPILE = False
    if "DISTILL_ON" in cfg.DATASET:
        distils = getattr(trainer_class(recorded.method), "distils", False)
        cfg.DATASET.DISTILL_ON = "few_shot" if distils else ""
    missing = [key for key in IMAGES if f"INPUT.{key}" not in {**settings, **more}]
    if missing:
        _take_clips_transform(cfg, backbone)
        notes.append(
            f"the run does not record INPUT.{missing[0]}: the image transform of {backbone} is used"
        )
    try:
        msgspec.convert(dict(cfg.INPUT), _Inputs)
    except msgspec.ValidationError as error:
        raise SettingsError(
            f"INPUT of the run in {recorded.folder} is not valid ({str(error).replace('`', '')}): "
            "restore its checkpoint.json and config.yaml from a copy"
        ) from error
    return cfg, notes


def _set(cfg: CfgNode, key: str, value: Any, origin: str) -> None:
    """Set a key of the config; ``origin`` begins the sentence about one that does not fit."""
    *sections, leaf = key.split(".")
    owner: Any = cfg
    for section in sections:
        owner = owner.get(section) if isinstance(owner, CfgNode) else None
    if not isinstance(owner, CfgNode) or leaf not in owner:
        if sections[0] == "TRAINER" and len(sections) > 1 and sections[1] not in DEFAULTS:
            return  # the section of a trainer that is not installed here, in a full config
        raise SettingsError(
            f"{origin} has the setting {key}, which this version does not have: use the version "
            "that trained the model"
        )
    try:
        owner[leaf] = _converted(owner[leaf], value)
    except TypeError as error:
        raise SettingsError(
            f"{origin} has {value!r} as {key}, expected a value such as {owner[leaf]!r}: correct "
            "it, or restore checkpoint.json and config.yaml from a copy"
        ) from error


def _converted(default: Any, value: Any) -> Any:
    """Return ``value`` in the type of ``default``; raise TypeError for another one."""
    kind = type(default)
    if default is None or type(value) is kind:
        return value
    if kind in (list, tuple) and type(value) in (list, tuple):
        return kind(value)
    if kind is float and type(value) is int:
        return float(value)
    raise TypeError(value)


def _take_clips_transform(cfg: CfgNode, backbone: str) -> None:
    """Set INPUT to the transform that belongs to the CLIP."""
    loaded: Any = clip.load(backbone, device="cpu")
    side, normalize = loaded[0].visual.input_resolution, loaded[1].transforms[-1]
    cfg.INPUT.SIZE = (side, side)
    cfg.INPUT.INTERPOLATION = "bicubic"
    cfg.INPUT.TRANSFORMS = ("normalize",)
    cfg.INPUT.PIXEL_MEAN = list(map(float, normalize.mean))
    cfg.INPUT.PIXEL_STD = list(map(float, normalize.std))
