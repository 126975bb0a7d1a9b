"""The model of a prompt learner with or without TextRefiner, and its Dassl trainer.

`RefinedCLIP` computes logits and losses. `PromptTrainer` does what all trainers of this family
share: building, freezing, optimization, precision, checkpoints and evaluation.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_pretrained_weights

from .backbone import autocast_type, check_compiler, compile_encoders, load_clip, log_tf32
from .checkpoints.fingerprints import check_clip_fingerprint, clip_fingerprint
from .checkpoints.layouts import MEMORY
from .checkpoints.load import load_trained
from .class_names import (
    feature_warnings,
    name_warnings,
    single_class_warnings,
    word_warnings,
)
from .encode import ImageTokens, is_vision_transformer
from .feature_store.features import image_encoder_of
from .feature_store.loaders import enable_stored_tests, use_feature_store
from .learner import Batch, Objective, PromptLearner
from .losses import class_logits, regularizer, salient_tokens, semantic_loss
from .nonfinite import LossWatch
from .parallel import all_reduce_gradients
from .prompting.contexts import limit_prompts
from .refiner import TextRefiner, full_precision, in_parallel
from .refiner_controls import ControlledRefiner, Controls
from .settings import (
    RefinerSettings,
    SettingsError,
    check_images,
    check_inputs,
    check_rows,
    node,
    text_chunk,
)
from .warning_list import WarningList

__all__ = ["PromptTrainer", "RefinedCLIP", "StepLosses", "build_refiner"]


class StepLosses(NamedTuple):
    """The logits (B, C) of a training step, and its named, weighted losses, which are summed."""

    logits: Tensor
    losses: dict[str, Tensor]


class RefinedCLIP(nn.Module):
    """A prompt learner, and the refiner of its text features with its settings, if there is one."""

    def __init__(
        self,
        learner: PromptLearner,
        refiner: TextRefiner | None = None,
        settings: RefinerSettings | None = None,
    ) -> None:
        super().__init__()
        if (refiner is None) != (settings is None):
            raise ValueError("a refiner requires settings, and settings require a refiner")
        self.learner = learner
        self.refiner = refiner
        self.settings = settings

    def trainable_modules(self) -> dict[str, nn.Module]:
        """Return checkpoint name -> module of all that is trained; all else is frozen."""
        modules = dict(self.learner.trainable_modules)
        if self.refiner is not None:
            modules[MEMORY] = self.refiner
        return modules

    def freeze(self) -> None:
        """Set requires_grad for the trained modules only."""
        self.requires_grad_(False)
        for module in self.trainable_modules().values():
            module.requires_grad_(True)
        if self.refiner is not None and self.settings is not None and self.settings.freeze_align:
            self.refiner.align.requires_grad_(False)

    def tokens(self, image: Tensor | ImageTokens, local: bool) -> ImageTokens:
        """Return the tokens of images (B, 3, H, W); stored tokens are returned as they are."""
        return image if isinstance(image, ImageTokens) else self.learner.encode_image(image, local)

    def forward(self, image: Tensor | ImageTokens, text: Tensor | None = None) -> Tensor:
        """Return the logits (B, C) of images (B, 3, H, W); does not write to the cache.

        ``text`` is the result of `class_features`; without it text features are computed here.
        """
        features = self.learner.image_features(self.tokens(image, local=False))
        if text is None:
            text = self._refined(self.learner.encode_text(features))
        with full_precision(features):
            return class_logits(features, text, self.learner.logit_scale)

    @torch.no_grad()
    def class_features(self) -> Tensor | None:
        """Return the refined text features (C, d), or None where they depend on the image.

        They are constant at test, so it is exact to compute them once (docs/method.md, "At test").
        """
        if self.learner.text_per_image:
            return None
        return self._refined(self.learner.encode_text(None))

    def _refined(self, text: Tensor) -> Tensor:
        return text if self.refiner is None else self.refiner(text)

    def training_step(self, batch: Batch) -> StepLosses:
        """Return logits and losses of a batch; writes to the cache after the read."""
        needs_tokens = self.settings is not None and self.settings.needs_tokens
        tokens = self.tokens(batch["img"], local=needs_tokens)
        heads = self.learner.heads(tokens)
        features = heads[0].features
        text = self.learner.encode_text(features)
        objective = self.learner.objective(batch)
        losses: dict[str, Tensor] = {}
        with full_precision(features):
            refined = self._refined(text)
            scale = self.learner.logit_scale
            found = [class_logits(head.features, refined, scale) for head in heads]
            for head, logits in zip(heads, found, strict=True):
                loss = objective.loss(logits, objective.target)
                losses[objective.name + head.name] = objective.weight * head.share * loss
            logits = found[0]
            if len(heads) > 1:
                parts = [head.share * part for head, part in zip(heads, found, strict=True)]
                logits = torch.stack(parts).sum(dim=0)
            losses |= self._refiner_losses(tokens, features, text, refined, objective)
        return StepLosses(logits, losses | self.learner.extra_losses(batch, features, text, logits))

    def _refiner_losses(
        self,
        tokens: ImageTokens,
        features: Tensor,
        text: Tensor,
        refined: Tensor,
        objective: Objective,
    ) -> dict[str, Tensor]:
        """Write to the cache; return semantic loss and regularizer, relative to the objective."""
        losses: dict[str, Tensor] = {}
        if self.refiner is None or self.settings is None:
            return losses
        settings = self.settings
        rows = features[:, None] if settings.local_on == "global" else None
        if tokens.local is not None and tokens.saliency is not None:
            local = self.refiner.align(tokens.local)
            self.refiner.cache.update(local)
            if settings.trains_on_tokens:
                rows = salient_tokens(local, tokens.saliency, settings.topk)
        if settings.local_weight > 0 and rows is not None:
            scale = self.learner.logit_scale
            loss = semantic_loss(rows, text, objective.target, scale, objective.loss)
            losses["semantic"] = objective.weight * settings.local_weight * loss
        if settings.reg_weight > 0:
            weight = objective.weight * settings.reg_weight
            losses["regularizer"] = weight * regularizer(refined, text)
        return losses


def build_refiner(clip_model: Any, dim: int, settings: RefinerSettings) -> TextRefiner:
    """Return a refiner for CLIP's image tokens and text features of width ``dim``.

    Raises SettingsError if the backbone has no patch tokens, or fewer than TOPK.
    """
    visual = clip_model.visual
    if not is_vision_transformer(visual):
        raise SettingsError(
            f"TextRefiner needs patch tokens, which {type(visual).__name__} does not have: set "
            "MODEL.BACKBONE.NAME to a vision transformer (ViT-B/16, ViT-B/32, ViT-L/14, ...), or "
            "use the plain trainer"
        )
    patches = visual.positional_embedding.shape[0] - 1
    if settings.topk > patches:
        raise SettingsError(
            f"TRAINER.TEXTREFINER.TOPK is {settings.topk}, but the backbone has {patches} patches: "
            f"set it to at most {patches}"
        )
    if settings.rank >= dim:
        raise SettingsError(
            f"TRAINER.TEXTREFINER.RANK is {settings.rank}, but W has {dim} rows: set it to at most "
            f"{dim - 1}, or to 0 for a full matrix"
        )
    options: dict[str, Any] = {
        "cache_size": settings.cache_size,
        "momentum": settings.momentum,
        "alpha": settings.alpha,
        "read_scale": settings.read_scale,
    }
    if settings.controls == Controls():
        return TextRefiner(visual.output_dim, dim, **options)
    return ControlledRefiner(visual.output_dim, dim, controls=settings.controls, **options)


class PromptTrainer(WarningList, TrainerX):
    """Base class of the trainers: subclasses name the config node and build the learner."""

    config_node: str  # the section of cfg.TRAINER with the learner's settings
    refined = False  # whether TextRefiner is added
    distils = False  # whether it trains without labels, on the images of DATASET.DISTILL_ON
    can_store = True  # whether DATALOADER.FEATURE_STORE is supported
    parallel = True  # whether several processes may train one model, each on a part of every batch
    refiner_settings: RefinerSettings | None = None  # cfg.TRAINER.TEXTREFINER if ``refined``
    _equal_features: Sequence[str] = ()  # a warning about them, given once and not every epoch

    @property
    def config_nodes(self) -> tuple[str, ...]:
        """The sections of cfg.TRAINER that determine this trainer's results."""
        return (self.config_node, "TEXTREFINER") if self.refined else (self.config_node,)

    def build_learner(self, clip_model: Any, classnames: list[str]) -> PromptLearner:
        """Build the learner of this trainer from ``self.cfg``."""
        raise NotImplementedError

    def text_backbone(self) -> tuple[str, str]:
        """Return the key and the name of the CLIP that encodes the class names."""
        return "MODEL.BACKBONE.NAME", self.cfg.MODEL.BACKBONE.NAME

    def check_cfg(self, cfg: Any) -> None:
        """Check the settings before anything is loaded."""
        check_rows(cfg)
        check_inputs(cfg)
        check_images(cfg, self.distils)
        if self.refined:
            self.refiner_settings = RefinerSettings.from_cfg(cfg, self.config_node)

    def build_model(self) -> None:
        """Load CLIP, build learner, refiner and optimizer, and register the trained modules."""
        cfg, settings = self.cfg, self.refiner_settings
        if cfg.DATASET.get("DISTILL_ON") == "all" and not self._class_groups():
            raise SettingsError(
                f"DATASET.DISTILL_ON all is not supported by {type(self.dm.dataset).__name__}: its "
                "class must derive from datasets.base.SplitDataset of this project"
            )
        precision = node(cfg, self.config_node).PREC
        clip_model, self.precision = load_clip(cfg, precision, self.device, warn=self.warn)
        log_tf32(self.device)
        self.model = self.build_network(clip_model, list(self.dm.dataset.classnames))
        learner = self.model.learner

        modules = self.model.trainable_modules()
        trained = nn.ModuleDict(modules)
        learned = {name: p for name, p in trained.named_parameters() if p.requires_grad}
        count = sum(p.numel() for p in learned.values())
        print(f"Trained parameters: {count:,} ({', '.join(learned)})")
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(next(iter(modules.values())), cfg.MODEL.INIT_WEIGHTS)
        self.optim = build_optimizer(trained, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        for position, (name, module) in enumerate(modules.items()):
            # One optimizer for all modules, which Dassl steps and saves with the first one.
            optimization = (self.optim, self.sched) if position == 0 else (None, None)
            self.register_model(name, module, *optimization)
        self.amp = self.precision == "amp"
        scaled = self.amp and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        self.watch = LossWatch(self.precision)
        self._warn_about_classes(learner)
        needs_tokens = settings is not None and settings.needs_tokens
        use_feature_store(self, image_encoder_of(learner), needs_tokens)
        if cfg.TRAINER.get("COMPILE", False):
            self._compile(learner)

    def build_network(self, clip_model: Any, classnames: list[str]) -> RefinedCLIP:
        """Return the learner and its refiner on the device, frozen except for what is trained.

        It needs ``cfg``, ``device`` and `check_cfg`, but no data.
        """
        settings = self.refiner_settings
        learner = self.build_learner(clip_model, classnames)
        limit_prompts(learner, *text_chunk(self.cfg, self.config_node), self.device)
        refiner = None
        if settings is not None:
            refiner = build_refiner(clip_model, learner.text_dim, settings)
            print(f"TextRefiner: {settings}")
        model = RefinedCLIP(learner, refiner, settings).to(self.device)
        model.freeze()
        return model

    def _compile(self, learner: PromptLearner) -> None:
        """Compile the encoders at the batch sizes of the loaders (TRAINER.COMPILE)."""
        if in_parallel():
            raise SettingsError(
                "TRAINER.COMPILE True is not supported with several processes: leave COMPILE out"
            )
        check_compiler(self.device)
        loaders = self.cfg.DATALOADER
        sizes = {loaders.TRAIN_X.BATCH_SIZE, loaders.TEST.BATCH_SIZE}
        compile_encoders(learner, sizes)
        print(f"Encoders compiled by torch.compile at their first batches (batch sizes {sizes})")

    @property
    def has_own_model(self) -> bool:
        """Whether ``model`` is what `build_model` here builds, and not what a subclass builds.

        Trainers of other repositories, such as DePT's, derive from CoOp and replace its model.
        """
        return isinstance(getattr(self, "model", None), RefinedCLIP)

    def before_train(self) -> None:
        """Stop storing test features where training changes the image encoder."""
        super().before_train()
        if self.has_own_model:
            enable_stored_tests(self, self.model.learner.frozen_image_encoder)

    def after_train(self) -> None:
        """Store test features again, now that the model is final, and test it."""
        enable_stored_tests(self, True)
        super().after_train()

    def forward_backward(self, batch: Batch) -> dict[str, Any]:
        """Make one optimization step; return what is logged, as tensors on the device.

        The host waits for the device only in steps that print losses and in the last of an epoch.
        """
        batch = self.parse_batch_train(batch)
        with self.autocast():
            logits, losses = self.model.training_step(batch)
        values = torch.stack(list(losses.values()))
        loss = values.sum()
        self.model_zero_grad()
        self.scaler.scale(loss).backward()
        accuracy = compute_accuracy(logits, batch["label"])[0]
        values, accuracy = all_reduce_gradients(self.model.parameters(), values.detach(), accuracy)
        self.scaler.step(self.optim)
        self.scaler.update()
        self.watch.add(tuple(losses), values, self.epoch * self.num_batches + self.batch_idx)
        named = dict(zip(losses, values, strict=True))
        summary = {"loss": values.sum(), "acc": accuracy, **named}
        done, frequency = self.batch_idx + 1, self.cfg.TRAIN.PRINT_FREQ
        last = done == self.num_batches
        if last or done % frequency == 0 or self.num_batches < frequency:
            self.watch.check(self.num_batches)
        if last:
            self.watch.check_weights(self.model.trainable_modules(), self.epoch)
            self.update_lr()
        return summary

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the autocast context of PREC amp, and one without effect otherwise."""
        if not self.amp:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=autocast_type(self.device))

    def parse_batch_train(self, batch: Batch) -> Batch:
        """Return the batch with its tensors on the device."""
        # The loader's memory is pinned, so the host does not wait for the copies.
        return {
            key: value.to(self.device, non_blocking=True) if hasattr(value, "to") else value
            for key, value in batch.items()
        }

    def inference(self, split: str | None = None) -> Callable[[Tensor], Tensor]:
        """Return a function from images to logits (B, C) with text features computed once.

        Logits of classes that ``split`` does not compare are -inf.
        """
        text = self.model.class_features()
        if text is not None and not self._equal_features:
            self._equal_features = feature_warnings(self.dm.dataset.classnames, text)
            for warning in self._equal_features:
                self.warn(warning)
        group = self._class_groups().get(split or self.cfg.TEST.SPLIT)

        def infer(image: Tensor) -> Tensor:
            logits = self.model(image, text)
            if group is None:
                return logits
            compared, labels = torch.full_like(logits, -torch.inf), list(group.labels)
            compared[:, labels] = logits[:, labels]
            return compared

        return infer

    def test(self, split: str | None = None) -> Any:
        """Evaluate on a split, with text features computed once for the class list."""
        if not self.has_own_model:
            return super().test(split)
        self.set_model_mode("eval")
        # Dassl's test calls this name; an instance attribute hides the method while it runs.
        self.model_inference = self.inference(split)  # type: ignore[assignment,method-assign]
        try:
            return super().test(split)
        finally:
            del self.model_inference

    def _warn_about_classes(self, learner: PromptLearner) -> None:
        """Warn about class names and class lists with which an accuracy means little."""
        names, found = list(self.dm.dataset.classnames), []
        if learner.text_clip is not None:
            table = learner.text_clip.token_embedding.weight
            found = word_warnings(names, table, *self.text_backbone())
        groups = [group.labels for group in self._class_groups().values()]
        for text in (*name_warnings(names), *single_class_warnings(names, groups), *found):
            self.warn(text)

    def _class_groups(self) -> Mapping[str, Any]:
        """Return split -> group of classes, where the dataset evaluates groups separately."""
        return getattr(self.dm.dataset, "class_groups", {})

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load trained modules from an output folder of ours, of CoOp or of the release.

        Without ``epoch`` it is the best-validation checkpoint.
        """
        if not directory:
            print("No --model-dir given: the model keeps its initial weights")
            return
        if not self.has_own_model:
            super().load_model(directory, epoch)
            return
        clip_model, key = self.model.learner.clip_model, "MODEL.BACKBONE.NAME"
        check_clip_fingerprint(directory, clip_model, key, self.cfg.MODEL.BACKBONE.NAME)
        modules, classnames = self.model.trainable_modules(), self.dm.dataset.classnames
        load_trained(modules, directory, epoch, clip_model, classnames)

    def describe(self) -> dict[str, Any]:
        """Return the frozen CLIP's fingerprint and the trained parameters for checkpoint.json."""
        if not self.has_own_model:
            return {}
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        clip = clip_fingerprint(self.model.learner.clip_model.state_dict())
        return {"clip": clip, "trained_parameters": trained}
