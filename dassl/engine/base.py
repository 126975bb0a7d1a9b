"""Base class of trainers: registered models, checkpoints, optimization steps, epoch loop."""

import math
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..utils import distributed
from ..utils.checkpoint import (
    BEST,
    epoch_file,
    load_random_state,
    load_state,
    load_weights,
    print_saved,
    restore,
    without_module_prefix,
    write_checkpoints,
)
from ..utils.errors import NonFiniteLossError, UsageError, nearest
from ..utils.file_set import FileSet
from ..utils.random_state import get_random_state
from ..utils.tools import PathLike, tolist_if_not
from .checkpoint_set import load_newest_set, load_set, set_epoch
from .progress import describe_non_finite


class TrainerBase:
    """Named models with their optimizers and schedulers, and the loop over epochs."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, Any] = OrderedDict()
        self._scheds: OrderedDict[str, Any] = OrderedDict()
        self._writer: Any = None
        self.start_epoch = self.epoch = self.max_epoch = 0
        self.batch_idx = self.num_batches = 0
        self.best_result = -math.inf
        self.best_epoch = 0  # number of finished epochs at the best result

    def register_model(
        self, name: str = "model", model: Any = None, optim: Any = None, sched: Any = None
    ) -> None:
        """Register a model, its optimizer and scheduler; raise a KeyError if `name` is taken."""
        if name in self._models:
            raise KeyError(f"a model is already registered as {name!r}")
        self._models[name] = model
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names: str | list[str] | None = None) -> list[str]:
        """Return `names` as a list (default: all); raise a UsageError if one is not registered."""
        if names is None:
            return list(self._models)
        names = tolist_if_not(names)
        for name in names:
            if name not in self._models:
                raise UsageError(f"unknown model {name!r}: {nearest(name, self._models)}")
        return names

    def set_model_mode(self, mode: str = "train", names: str | list[str] | None = None) -> None:
        """Set models to the mode "train" or "eval" (alias "test")."""
        if mode not in ("train", "test", "eval"):
            raise UsageError(f"unknown mode {mode!r}: allowed: train, test, eval")
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    def save_model(
        self,
        epoch: int,
        directory: PathLike,
        is_best: bool = False,
        val_result: float | None = None,
        model_name: str = "",
    ) -> None:
        """Save all models and the training state after the epoch of index `epoch`.

        Only the main process saves.
        """
        if not distributed.is_main():
            return
        shared = {"epoch": epoch + 1, **self._training_state()}
        shared["val_result"] = None if val_result is None else float(val_result)
        states = {
            Path(directory) / name: {
                "state_dict": without_module_prefix(model.state_dict()),
                "optimizer": _state_of(self._optims[name]),
                "scheduler": _state_of(self._scheds[name]),
                **shared,
            }
            for name, model in self._models.items()
        }
        newest = model_name or epoch_file(epoch + 1)
        saved = dict.fromkeys([newest, BEST] if is_best else [newest], epoch + 1)
        with FileSet(directory) as files:
            paths = write_checkpoints(files, states, is_best, model_name)
            self.on_save(files, saved, shared["val_result"])
        print_saved(paths)

    def on_save(self, files: FileSet, saved: Mapping[str, int], val_result: float | None) -> None:
        """Called while a set is saved, to write more files with it; ``saved`` is name -> epoch."""

    def _training_state(self) -> dict[str, Any]:
        """Return the state of the run that does not belong to a model."""
        state = {
            "random_state": get_random_state(),
            "best_result": self.best_result,
            "best_epoch": self.best_epoch,
        }
        # CoOp's trainers have a GradScaler as self.scaler in mixed precision.
        scaler = _state_of(getattr(self, "scaler", None))
        return {**state, "scaler": scaler} if scaler else state

    def resume_model_if_exist(self, directory: PathLike) -> int:
        """Restore models and training state from the newest checkpoints of a folder.

        Returns:
            The number of finished epochs; 0 if the folder has no checkpoint.
        """
        loaded = load_newest_set(directory, self.get_model_names())
        if not loaded:
            return 0
        print(f"Found checkpoint at {directory} (will resume training)")
        for name, (path, checkpoint) in loaded.items():
            restore(checkpoint, path, self._models[name], self._optims[name], self._scheds[name])
        path, checkpoint = next(iter(loaded.values()))
        result = checkpoint.get("best_result")
        self.best_result = -math.inf if result is None else result
        self.best_epoch = checkpoint.get("best_epoch", 0)
        scaler = getattr(self, "scaler", None)
        if scaler is not None and checkpoint.get("scaler"):
            load_state(scaler, checkpoint["scaler"], f"the scaler in {path}")
        if "random_state" in checkpoint:
            load_random_state(checkpoint["random_state"], str(path))
        else:
            print(f"{path} has no random states: resuming from it is not exact")
        return set_epoch(loaded)

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the best checkpoint of each model from a run's folder, or the one of an epoch."""
        if not directory or not self._models:
            reason = "no model is registered" if directory else "no model directory is set"
            print(f"Nothing is loaded: {reason}")
            return
        for name, (path, checkpoint) in load_set(directory, self._models, epoch).items():
            load_weights(self._models[name], checkpoint["state_dict"], f"{name} in {path}")
            result = checkpoint.get("val_result")
            suffix = f", val_result={result:.1f}" if result is not None else ""
            print(f"Load {path} to {name} (epoch={checkpoint['epoch']}{suffix})")

    def init_writer(self, log_dir: str) -> None:
        """Open the TensorBoard writer in the main process."""
        if self._writer is None and distributed.is_main():
            from torch.utils.tensorboard import SummaryWriter  # only needed in training

            print(f"Initialize tensorboard (log_dir={log_dir})")
            self._writer = SummaryWriter(log_dir=log_dir)

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """Write a scalar if the writer is open; it is not in evaluation alone."""
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    def close_writer(self) -> None:
        """Close the TensorBoard file, if open."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def train(self, start_epoch: int, max_epoch: int) -> None:
        """Train from `start_epoch`, which `before_train` may change, to `max_epoch`."""
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        try:
            self.before_train()
            self.on_start()
            for epoch in range(self.start_epoch, self.max_epoch):
                self.epoch = epoch
                self.before_epoch()
                self.run_epoch()
                self.after_epoch()
            self.after_train()
        finally:
            self.close_writer()

    def before_train(self) -> None:
        """Called once, before the first epoch."""

    def on_start(self) -> None:
        """Called once when all checks of a training have passed; train.py begins its records."""

    def after_train(self) -> None:
        """Called once, after the last epoch."""

    def before_epoch(self) -> None:
        """Called before each epoch."""

    def after_epoch(self) -> None:
        """Called after each epoch."""

    def run_epoch(self) -> None:
        """Train for the epoch `self.epoch`."""
        raise NotImplementedError

    def test(self, split: str | None = None) -> Any:
        """Evaluate on a split."""
        raise NotImplementedError

    def parse_batch_train(self, batch: Any) -> Any:
        """Move the parts of a training batch that a step needs to the device."""
        raise NotImplementedError

    def parse_batch_test(self, batch: Any) -> Any:
        """Move images and labels of a test batch to the device."""
        raise NotImplementedError

    def forward_backward(self, batch: Any) -> Any:
        """Run one optimization step; return values to log (floats or 0-dim tensors) by name."""
        raise NotImplementedError

    def model_inference(self, input: Any) -> Any:
        """Return the logits (B, C) of a batch."""
        raise NotImplementedError

    def detect_anomaly(self, loss: Tensor, name: str = "loss") -> None:
        """Raise a NonFiniteLossError (a UsageError) if a loss is infinite or NaN."""
        if not torch.isfinite(loss).all():
            step = self.epoch * self.num_batches + self.batch_idx
            value = float(loss.detach().sum())
            raise NonFiniteLossError(describe_non_finite(name, value, self.epoch, step))

    def model_zero_grad(self, names: str | list[str] | None = None) -> None:
        """Zero the gradients of the models' optimizers."""
        for optim in self._optims_of(names):
            optim.zero_grad()

    def model_backward(self, loss: Tensor) -> None:
        """Check that a loss is finite, and compute its gradients."""
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names: str | list[str] | None = None) -> None:
        """Step the models' optimizers."""
        for optim in self._optims_of(names):
            optim.step()

    def model_backward_and_update(self, loss: Tensor, names: str | list[str] | None = None) -> None:
        """Zero gradients, compute them, and step the optimizers."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

    def update_lr(self, names: str | list[str] | None = None) -> None:
        """Step the models' schedulers; the trainer's forward_backward calls this once per epoch."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def get_current_lr(self, names: str | list[str] | None = None) -> float:
        """Return the learning rate of the first parameter group of the first optimizer."""
        optims = self._optims_of(names)
        if not optims:
            raise UsageError("no registered model has an optimizer, so there is no learning rate")
        return float(optims[0].param_groups[0]["lr"])

    def _optims_of(self, names: str | list[str] | None) -> list[Any]:
        optims = [self._optims[name] for name in self.get_model_names(names)]
        return [optim for optim in optims if optim is not None]


def _state_of(part: Any) -> Any:
    return None if part is None else part.state_dict()
