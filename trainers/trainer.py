"""A prompt learner with or without TextRefiner, and the one Dassl trainer around it.

`RefinedCLIP` turns images into logits and losses; `PromptTrainer` does what every trainer of this
family does: build, freeze, step, precision, checkpoint, evaluate.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_pretrained_weights

from .backbone import autocast_type, check_compiler, compile_towers, load_clip, log_tf32
from .checkpoints.fingerprints import check_identity, clip_identity
from .checkpoints.load import BACKBONE, load_trained
from .encode import ImageTokens, is_vision_transformer, unit
from .feature_store.features import image_encoder_of
from .feature_store.loaders import use_feature_store
from .learner import Objective, PromptLearner
from .losses import class_logits, regularizer, salient_tokens, semantic_loss
from .nonfinite import LossWatch
from .parallel import all_reduce_gradients
from .prompting.contexts import limit_prompts
from .refiner import TextRefiner, full_precision, in_parallel
from .settings import (
    PRECISIONS,
    RefinerSettings,
    SettingsError,
    check_choice,
    check_images,
    node,
    text_chunk,
)

__all__ = ["PromptTrainer", "RefinedCLIP", "StepLosses", "build_refiner"]


class StepLosses(NamedTuple):
    """One training step: logits (B, C) and the weighted, named losses whose sum is minimized."""

    logits: Tensor
    losses: dict[str, Tensor]


class RefinedCLIP(nn.Module):
    """learner (+ refiner) -> logits; the baseline is the same code with ``refiner`` None.

    Args:
        learner: a `PromptLearner`.
        refiner: the plug-in, or None.
        settings: weights and switches of the refiner's losses; needed with a refiner.
    """

    def __init__(
        self,
        learner: PromptLearner,
        refiner: TextRefiner | None = None,
        settings: RefinerSettings | None = None,
    ) -> None:
        super().__init__()
        if (refiner is None) != (settings is None):
            raise ValueError("a refiner and its settings come together")
        self.learner = learner
        self.refiner = refiner
        self.settings = settings
        self._text: Tensor | None = None

    def trainable_modules(self) -> dict[str, nn.Module]:
        """Checkpoint name -> module: all that is trained; every other parameter is frozen."""
        modules = dict(self.learner.trainable_modules)
        if self.refiner is not None:
            modules["Memory"] = self.refiner  # the release's name for it
        return modules

    def freeze(self) -> None:
        """Let gradients flow to the trained modules alone."""
        self.requires_grad_(False)
        for module in self.trainable_modules().values():
            module.requires_grad_(True)

    def tokens(self, image: Tensor | ImageTokens, local: bool) -> ImageTokens:
        """Images (B, 3, H, W) -> tokens; those that a feature store has kept are at hand."""
        if isinstance(image, ImageTokens):
            return image
        return self.learner.encode_image(image, local)

    def forward(self, image: Tensor | ImageTokens) -> Tensor:
        """Logits (B, C) of images (B, 3, H, W) at test: no local tokens, no write."""
        features = unit(self.tokens(image, local=False).pooled)
        text = self.text(features) if self._text is None else self._text
        with full_precision(features):
            return class_logits(features, text, self.learner.logit_scale)

    def text(self, features: Tensor | None) -> Tensor:
        """The text features that classify, refined if there is a refiner: (C, d) or (B, C, d)."""
        text = self.learner.encode_text(features)
        return text if self.refiner is None else self.refiner.refine(text)

    @contextmanager
    def cached_text(self) -> Iterator[None]:
        """While open, text features are computed once (unless the prompts depend on the image).

        Exact at test, where cache and prompts stand still (method.md, "At test").
        """
        if not self.learner.text_per_image:
            with torch.no_grad():
                self._text = self.text(None)
        try:
            yield
        finally:
            self._text = None

    def training_step(self, image: Tensor, label: Tensor) -> StepLosses:
        """Logits and losses of one batch; writes to the cache after the read (method.md)."""
        needs_tokens = self.settings is not None and self.settings.needs_tokens
        tokens = self.tokens(image, local=needs_tokens)
        features = unit(tokens.pooled)
        text = self.learner.encode_text(features)
        task = self.learner.objective(image, label)
        with full_precision(features):
            refined = text if self.refiner is None else self.refiner.refine(text)
            logits = class_logits(features, refined, self.learner.logit_scale)
            losses = {task.name: task.weight * task.loss(logits, task.target)}
            losses |= self._refiner_losses(tokens, text, refined, task)
        return StepLosses(logits, losses | self.learner.extra_losses(image, features, text, logits))

    def _refiner_losses(
        self, tokens: ImageTokens, text: Tensor, refined: Tensor, task: Objective
    ) -> dict[str, Tensor]:
        """Write to the cache; semantic loss and regularizer, relative to the weight of the task."""
        losses: dict[str, Tensor] = {}
        if self.refiner is None or self.settings is None:
            return losses
        if tokens.local is not None and tokens.saliency is not None:
            local = self.refiner.align(tokens.local)
            self.refiner.cache.update(local)
            if self.settings.local:
                salient = salient_tokens(local, tokens.saliency, self.settings.topk)
                scale = self.learner.logit_scale
                loss = semantic_loss(salient, text, task.target, scale, task.loss)
                losses["semantic"] = task.weight * self.settings.local_weight * loss
        if self.settings.reg:
            weight = task.weight * self.settings.reg_weight
            losses["regularizer"] = weight * regularizer(refined, text)
        return losses


def build_refiner(clip_model: Any, dim: int, settings: RefinerSettings) -> TextRefiner:
    """The refiner for the image tokens of ``clip_model`` and text features of width ``dim``.

    Raises:
        SettingsError: the backbone has no patch tokens, or fewer than TOPK.
    """
    visual = clip_model.visual
    if not is_vision_transformer(visual):
        raise SettingsError(
            f"TextRefiner reads patch tokens, which {type(visual).__name__} does not have: set "
            "MODEL.BACKBONE.NAME to a vision transformer (ViT-B/16, ViT-B/32, ViT-L/14, ...), or "
            "use the plain trainer"
        )
    patches = visual.positional_embedding.shape[0] - 1
    if settings.topk > patches:
        raise SettingsError(
            f"TRAINER.TEXTREFINER.TOPK is {settings.topk}, the backbone has {patches} patches: "
            f"set it to at most {patches}"
        )
    size = settings.cache_size if settings.cache else 0
    return TextRefiner(visual.output_dim, dim, size, settings.momentum, settings.alpha)


class PromptTrainer(TrainerX):
    """Trains what a learner declares; subclasses name the config node and build the learner.

    ``refined`` is the switch between a baseline and its TextRefiner twin.
    """

    config_node: str
    refined = False
    parallel = True  # several processes train one model, each on its part of every batch
    _compared: Sequence[int] = ()
    can_store = True  # DATALOADER.FEATURE_STORE
    selecting = False  # while an epoch's model is evaluated to find the best one
    distils = False  # trains without labels, so DATASET.DISTILL_ON must say on which images

    @property
    def config_nodes(self) -> tuple[str, ...]:
        """The sections of cfg.TRAINER that decide this trainer's results."""
        return (self.config_node, "TEXTREFINER") if self.refined else (self.config_node,)

    def build_learner(self, clip_model: Any, classnames: list[str]) -> PromptLearner:
        """The learner of this trainer, from ``self.cfg``."""
        raise NotImplementedError

    def check_cfg(self, cfg: Any) -> None:
        """Refuse settings that cannot work before anything is loaded."""
        precision = node(cfg, self.config_node).PREC
        check_choice(f"TRAINER.{self.config_node}.PREC", precision, PRECISIONS)
        check_images(cfg, self.distils)
        text_chunk(cfg, self.config_node)
        if self.refined:
            RefinerSettings.from_cfg(cfg, self.config_node)

    def build_model(self) -> None:
        """Load CLIP, build learner and refiner, freeze, build the optimizer, register."""
        cfg = self.cfg
        if cfg.DATASET.get("DISTILL_ON") == "all" and not self._class_groups():
            raise SettingsError(
                f"DATASET.DISTILL_ON all: {type(self.dm.dataset).__name__} does not know it (its "
                "class must derive from datasets.base.SplitDataset of this project)"
            )
        asked = node(cfg, self.config_node).PREC
        clip_model, self.precision = load_clip(cfg, asked, self.device)
        log_tf32(self.device)
        classnames = list(self.dm.dataset.classnames)
        learner = self.build_learner(clip_model, classnames)
        limit_prompts(learner, *text_chunk(cfg, self.config_node), self.device)
        settings = refiner = None
        if self.refined:
            settings = RefinerSettings.from_cfg(cfg, self.config_node)
            refiner = build_refiner(clip_model, learner.text_dim, settings)
            print(f"TextRefiner: {settings}")
        self.model = RefinedCLIP(learner, refiner, settings).to(self.device)
        self.model.freeze()

        modules = self.model.trainable_modules()
        trained = nn.ModuleDict(modules)
        count = sum(p.numel() for p in trained.parameters())
        names = ", ".join(f"{n}.{p}" for n, m in modules.items() for p, _ in m.named_parameters())
        print(f"Trained parameters: {count:,} ({names})")
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(next(iter(modules.values())), cfg.MODEL.INIT_WEIGHTS)
        self.optim = build_optimizer(trained, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        for position, (name, module) in enumerate(modules.items()):
            # One optimizer over everything; Dassl steps and saves it with the first module.
            first = position == 0
            self.register_model(
                name, module, self.optim if first else None, self.sched if first else None
            )
        self.amp = self.precision == "amp"
        fp16_gradients = self.amp and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=fp16_gradients)
        self.watch = LossWatch(self.precision)
        needs_tokens = settings is not None and settings.needs_tokens
        use_feature_store(self, image_encoder_of(learner), needs_tokens)
        if cfg.TRAINER.get("COMPILE", False):
            self._compile(learner)

    def _compile(self, learner: Any) -> None:
        """TRAINER.COMPILE, at the batch sizes of this run's loaders."""
        if in_parallel():
            raise SettingsError(
                "TRAINER.COMPILE True is for one process, this run has several: leave COMPILE out"
            )
        check_compiler(self.device)
        loaders = self.cfg.DATALOADER
        sizes = {loaders.TRAIN_X.BATCH_SIZE, loaders.TEST.BATCH_SIZE}
        compile_towers(learner, sizes)
        print(f"Towers compiled by torch.compile at their first batches (batch sizes {sizes})")

    def forward_backward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """One optimization step; returns what is logged, as tensors that nobody has waited for.

        The host waits for the device only at steps whose losses are printed and at an epoch's last.
        """
        image, label = self.parse_batch_train(batch)
        with self.autocast():
            logits, losses = self.model.training_step(image, label)
        values = torch.stack(list(losses.values()))
        loss = values.sum()
        self.model_zero_grad()
        self.scaler.scale(loss).backward()
        accuracy = compute_accuracy(logits, label)[0]
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
        """PREC amp: half precision on CUDA, bfloat16 elsewhere; otherwise nothing."""
        if not self.amp:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=autocast_type(self.device))

    def parse_batch_train(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) and labels (B,) on the device."""
        image, label = batch["img"], batch["label"]
        # From pinned memory (the loader's) the host does not wait for the copy.
        return image.to(self.device, non_blocking=True), label.to(self.device, non_blocking=True)

    def model_inference(self, input: Tensor) -> Tensor:
        """Logits (B, C); -inf for classes that the split under test does not compare."""
        logits = self.model(input)
        if not self._compared:
            return logits
        others = torch.full_like(logits, -torch.inf)
        others[:, self._compared] = logits[:, self._compared]
        return others

    def test(self, split: str | None = None) -> Any:
        """Evaluate, with the refined text matrix computed once for the class list."""
        self.set_model_mode("eval")
        group = self._class_groups().get(split or self.cfg.TEST.SPLIT)
        self._compared = list(group.labels) if group else []
        try:
            with self.model.cached_text():
                return super().test(split)
        finally:
            self._compared = []

    def after_epoch(self) -> None:
        """As Dassl's, with word to the feature store that the model will change."""
        self.selecting = True
        try:
            super().after_epoch()
        finally:
            self.selecting = False

    def _class_groups(self) -> Mapping[str, Any]:
        """Split -> its group of classes, where the dataset tests groups apart."""
        return getattr(self.dm.dataset, "class_groups", {})

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load trained modules from an output folder of ours, of CoOp or of the release.

        Without ``epoch`` it is the best-validation checkpoint.
        """
        if not directory:
            print("No --model-dir given: the model stays as it was built")
            return
        clip_model = self.model.learner.clip_model
        check_identity(directory, clip_model, BACKBONE, self.cfg.MODEL.BACKBONE.NAME)
        load_trained(self.model.trainable_modules(), directory, epoch, clip_model)

    def describe(self) -> dict[str, Any]:
        """What checkpoint.json says of the frozen CLIP, and how much is trained."""
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        clip = clip_identity(self.model.learner.clip_model.state_dict())
        return {"clip": clip, "trained_parameters": trained}
