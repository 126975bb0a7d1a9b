"""Trainers with data, device, evaluation and model selection set by a config.

A trainer derives from TrainerX, builds and registers its models in `build_model`, and runs one
optimization step in `forward_backward`. Training is a function of the seed: an evaluation does not
change the random generators, and on the CPU a resumed run is bit-identical to an uninterrupted one.
"""

import datetime
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ..config import complete
from ..data import DataManager
from ..evaluation import build_evaluator
from ..logit_check import LogitCheck
from ..modeling import refuse
from ..utils import distributed
from ..utils.checkpoint import BEST
from ..utils.elsewhere import names_elsewhere
from ..utils.errors import UsageError, nearest
from ..utils.file_set import FileSet, finish_file_set
from ..utils.random_state import preserved_random_state
from ..utils.tools import mkdir_if_missing
from .base import TrainerBase
from .checkpoint_set import CheckpointSet, copy_best, has_epoch, load_newest_set, set_epoch
from .progress import EpochLog, bar
from .run_records import repair_record, write_record
from .selection import (
    check_selection,
    check_split,
    describe_selection,
    note_old_name,
    selects_best,
)
from .settings import check_settings

Item = TypeVar("Item")
# Trainers import these from the original's module of this name. SummaryWriter is slow to import.
_PLACES = {
    **dict.fromkeys(("build_backbone", "build_head"), "dassl.modeling"),
    **dict.fromkeys(("build_lr_scheduler", "build_optimizer"), "dassl.optim"),
    **dict.fromkeys(
        (
            *("AverageMeter", "MetricMeter", "count_num_param", "load_checkpoint"),
            *("load_pretrained_weights", "resume_from_checkpoint", "save_checkpoint"),
            "tolist_if_not",
        ),
        "dassl.utils",
    ),
    "SummaryWriter": "torch.utils.tensorboard",
}
__getattr__ = names_elsewhere(__name__, _PLACES)


class SimpleNet(nn.Module):
    """The original's CNN classifier, which is out of scope; building it raises a UsageError."""

    def __init__(self, cfg: CfgNode, model_cfg: CfgNode, num_classes: int, **kwargs: Any) -> None:
        refuse("SimpleNet, the model of a trainer without build_model,")


class SimpleTrainer(TrainerBase):
    """A trainer built from a config.

    Attributes:
        cfg, device, output_dir: the config, the device of the run, cfg.OUTPUT_DIR.
        dm, train_loader_x, train_loader_u, val_loader, test_loader: data manager and its loaders.
        num_classes, num_source_domains, lab2cname: properties of the dataset.
        evaluator: the evaluator TEST.EVALUATOR.
    """

    dm: Any = None  # None if a trainer builds its loaders without a data manager

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        cfg = complete(cfg)
        check_settings(cfg)
        self.check_cfg(cfg)
        self.device = _choose_device(cfg)
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        with distributed.main_first():  # may write files: images, few-shot splits, downloads
            self.build_data_loader()
            check_split(self)
            self.build_model()
        distributed.broadcast_state(self._models.values())
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)
        self.last_test: dict[str, Any] = {}  # split and results of the last `test`

    def check_cfg(self, cfg: CfgNode) -> None:
        """Raise an error if settings do not suit the trainer."""

    def build_data_loader(self) -> None:
        """Build the data manager and its loaders."""
        dm = DataManager(self.cfg)
        self.train_loader_x: Any = dm.train_loader_x
        self.train_loader_u: Any = dm.train_loader_u  # None: no unlabeled images
        self.val_loader: Any = dm.val_loader  # None: no val split
        self.test_loader: Any = dm.test_loader
        self.num_classes = dm.num_classes
        self.num_source_domains = dm.num_source_domains
        self.lab2cname = dm.lab2cname
        self.dm = dm

    def build_model(self) -> None:
        """Build and register the models; override this."""
        self.model: Any = SimpleNet(self.cfg, self.cfg.MODEL, self.num_classes)

    def describe(self) -> dict[str, Any]:
        """Return facts about the model for checkpoint.json that its config does not contain."""
        return {}

    def on_save(self, files: FileSet, saved: Mapping[str, int], val_result: float | None) -> None:
        """Write checkpoint.json with the checkpoints."""
        write_record(self, files, saved, val_result)

    def train(self) -> None:  # type: ignore[override]  # as in the original
        """Train from `start_epoch` to `max_epoch`."""
        super().train(self.start_epoch, self.max_epoch)

    def before_train(self) -> None:
        """Check the selection rule, resume from checkpoints if any, and open TensorBoard."""
        self._check_batch_size()
        note_old_name(self.cfg)
        if selects_best(self.cfg):
            check_selection(self.cfg, self.val_loader, self.dm)
        self._resume()
        writer_dir = str(Path(self.output_dir) / "tensorboard")
        mkdir_if_missing(writer_dir)
        self.init_writer(writer_dir)
        self.time_start = time.time()

    def _check_batch_size(self) -> None:
        """Raise a UsageError if batches cannot be divided evenly among the processes."""
        count = distributed.world_size()
        batch = self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE
        images = min(batch, len(self.dm.dataset.train_x)) if count > 1 else 0
        if images % count:
            raise UsageError(
                f"a training batch of {images} images cannot be divided evenly among {count} "
                f"processes: set DATALOADER.TRAIN_X.BATCH_SIZE, now {batch}, to a multiple of "
                f"{count} up to {len(self.dm.dataset.train_x)}, or start another number of "
                "processes (torchrun --nproc_per_node)"
            )

    def _resume(self) -> None:
        # Another process than this one may be writing to the folder RESUME, not to OUTPUT_DIR.
        distributed.broadcast_from_main(lambda: finish_file_set(self.output_dir))
        directory = self._resume_folder()
        self.start_epoch = self.resume_model_if_exist(directory)
        found = distributed.all_gather(self.start_epoch)
        if len(set(found)) > 1:
            raise UsageError(
                f"the processes find checkpoints of different epochs in {directory!r} ({found} by "
                "rank): use a folder that all machines share"
            )
        if self.start_epoch > self.max_epoch:
            raise UsageError(
                f"the checkpoint in {directory!r} is of epoch {self.start_epoch}, more than "
                f"OPTIM.MAX_EPOCH {self.max_epoch}: increase it, or choose another OUTPUT_DIR"
            )
        if self.start_epoch:
            self.epoch = self.start_epoch - 1
            if selects_best(self.cfg):
                self._find_best_so_far(directory)
            # The run was interrupted between saving its best epoch and saving the epoch.
            if self._is_saved(self.start_epoch) and not has_epoch(
                self.output_dir, self.get_model_names(), self.start_epoch
            ):
                self.save_model(self.epoch, self.output_dir)
            if distributed.is_main():
                repair_record(self, self.output_dir)
            if self.start_epoch == self.max_epoch:
                print(f"All {self.max_epoch} epochs are finished: nothing left to train")
            elif self.cfg.SEED < 0:
                print("SEED is negative: the order of the images differs from before")
        elif self.cfg.RESUME:
            raise UsageError(
                f"nothing to resume in {directory!r}: it has no checkpoint of "
                f"{', '.join(self.get_model_names())}; set --resume to the output folder of a run, "
                "or omit it"
            )
        else:
            print("No checkpoint found, train from scratch")

    def _resume_folder(self) -> str:
        """Return RESUME, or OUTPUT_DIR where this run itself has come at least as far."""
        own, other = str(self.cfg.OUTPUT_DIR), str(self.cfg.RESUME)
        if not other or Path(own).resolve() == Path(other).resolve():
            return own
        names = self.get_model_names()
        sets = [load_newest_set(folder, names) for folder in (own, other)]
        epochs = [set_epoch(found) if found else 0 for found in sets]
        if 0 < epochs[0] >= epochs[1]:
            print(f"{own} has epoch {epochs[0]} of this run: it is resumed instead of {other}")
            return own
        return other

    def _find_best_so_far(self, directory: str) -> None:
        """Copy the best model of the resumed run; without one, select among the next epochs."""
        names, epoch = self.get_model_names(), self.best_epoch
        found = distributed.broadcast_from_main(
            lambda: _result_of(copy_best(directory, self.output_dir, names, epoch))
        )
        if found is None:
            print(f"No best model in {directory}: the best epoch is selected from here on")
            self.best_result, self.best_epoch = -math.inf, 0
        elif not math.isfinite(self.best_result):  # the original does not save it
            path, result, self.best_epoch = found
            if result is None:
                print(f"{path} has no val_result: the best epoch is selected from here on")
                self.best_epoch = 0
            else:
                self.best_result = result

    def after_epoch(self) -> None:
        """Save the model if it is the best on val, and every CHECKPOINT_FREQ epochs."""
        finished = self.epoch + 1
        if selects_best(self.cfg):
            result = self.test(split="val" if self.val_loader is not None else "test")
            if result > self.best_result:
                self.best_result, self.best_epoch = result, finished
                self.save_model(self.epoch, self.output_dir, val_result=result, model_name=BEST)
        if self._is_saved(finished):
            self.save_model(self.epoch, self.output_dir)

    def _is_saved(self, finished: int) -> bool:
        """Return whether checkpoints are saved after this number of epochs."""
        frequency = self.cfg.TRAIN.CHECKPOINT_FREQ
        return finished == self.max_epoch or (frequency > 0 and finished % frequency == 0)

    def after_train(self) -> None:
        """Test the selected model, and print how it was selected."""
        print("Finish training")
        if not self.cfg.TEST.NO_TEST:
            if selects_best(self.cfg):
                print("Deploy the model with the best val performance")
                distributed.barrier()  # until the main process has saved it
                self.load_model(self.output_dir)
            else:
                print("Deploy the last-epoch model")
            print(describe_selection(self))
            self.test()
        elapsed = datetime.timedelta(seconds=round(time.time() - self.time_start))
        print(f"Elapsed: {elapsed}")
        self.close_writer()

    def _begin_epoch(self, num_batches: int) -> EpochLog:
        """Set models to train mode and loaders to this epoch; return the epoch's log."""
        if num_batches == 0:
            raise UsageError(
                "an epoch has no batch: there are fewer training images than "
                f"DATALOADER.TRAIN_X.BATCH_SIZE {self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE}"
            )
        self.num_batches = num_batches
        self.set_model_mode("train")
        # A resumed run has the order and augmentations of the epoch.
        if hasattr(self.dm, "set_epoch"):
            self.dm.set_epoch(self.epoch)
        freq = self.cfg.TRAIN.PRINT_FREQ
        return EpochLog(
            self.epoch, self.max_epoch, num_batches, freq, self.get_current_lr, self.write_scalar
        )

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on the split "val" or "test" (default: TEST.SPLIT); print the result block.

        The models stay in eval mode; the random generators are restored.

        Returns:
            The evaluator's first result, which selects models.

        Raises:
            UsageError: there is no such split, or the logits of an image are not finite.
        """
        split = split or self.cfg.TEST.SPLIT
        loader = self.val_loader if split == "val" else self.test_loader
        if loader is None:
            raise UsageError(
                f"{self.cfg.DATASET.NAME or 'the dataset'} has no {split} split to evaluate on: "
                "set TEST.SPLIT to another one"
            )
        self.set_model_mode("eval")
        self.evaluator.reset()
        self.evaluator.split = split
        print(f"Evaluate on the *{split}* set")
        logits = LogitCheck()

        def outputs() -> Iterator[tuple[Tensor, Tensor]]:
            for batch in bar(loader, len(loader), split):
                image, label = self.parse_batch_test(batch)
                output = self.model_inference(image)
                logits.add(output, batch)
                yield output, label

        with preserved_random_state():
            for output, label in distributed.gather_batches(outputs()):
                self.evaluator.process(output, label)
            logits.check()
            # The first evaluation imports scikit-learn, which draws random numbers.
            results = distributed.broadcast_from_main(self.evaluator.evaluate)
        self.last_test = {"split": split, **results}
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        return float(next(iter(results.values())))

    def model_inference(self, input: Tensor) -> Any:
        """Return the logits (B, C) of images (B, 3, H, W)."""
        return self.model(input)

    def parse_batch_test(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Return images (B, 3, H, W) and labels (B,) on the device."""
        return batch["img"].to(self.device), batch["label"].to(self.device)


class TrainerX(SimpleTrainer):
    """Trainer on labeled images."""

    def run_epoch(self) -> None:
        """Run one step per batch of `train_loader_x`."""
        log = self._begin_epoch(len(self.train_loader_x))
        for index, batch in enumerate(log.watch(self.train_loader_x)):
            self.batch_idx = index
            log.step(self.forward_backward(batch))

    def parse_batch_train(self, batch: Mapping[str, Any]) -> Any:
        """Return images (B, 3, H, W), labels (B,) and domains (B,) on the device."""
        image, label, domain = batch["img"], batch["label"], batch["domain"]
        return image.to(self.device), label.to(self.device), domain.to(self.device)


class TrainerXU(SimpleTrainer):
    """Trainer on pairs of a labeled and an unlabeled batch."""

    def run_epoch(self) -> None:
        """Run the number of steps set by TRAIN.COUNT_ITER, restarting the shorter loader."""
        log = self._begin_epoch(self._count_batches())
        labeled, unlabeled = _endless(self.train_loader_x), _endless(self.train_loader_u)
        pairs = zip(range(self.num_batches), labeled, unlabeled, strict=False)
        for index, batch_x, batch_u in log.watch(pairs):
            self.batch_idx = index
            log.step(self.forward_backward(batch_x, batch_u))

    def forward_backward(self, batch_x: Any, batch_u: Any) -> Any:  # type: ignore[override]
        """Run one step on a labeled and an unlabeled batch; return values to log."""
        raise NotImplementedError

    def _count_batches(self) -> int:
        if self.train_loader_u is None:
            raise UsageError(
                f"{type(self).__name__} needs unlabeled images (train_u), but "
                f"{self.cfg.DATASET.NAME or 'the dataset'} has none"
            )
        labeled, unlabeled = len(self.train_loader_x), len(self.train_loader_u)
        smaller = min(labeled, unlabeled)
        counts = {"train_x": labeled, "train_u": unlabeled, "smaller_one": smaller}
        rule = self.cfg.TRAIN.COUNT_ITER
        if rule not in counts:
            raise UsageError(f"TRAIN.COUNT_ITER {rule!r} is unknown: {nearest(rule, counts)}")
        return counts[rule]

    def parse_batch_train(  # type: ignore[override]  # as in the original
        self, batch_x: Mapping[str, Any], batch_u: Mapping[str, Any]
    ) -> Any:
        """Return labeled images, their labels and unlabeled images on the device."""
        image_x, label_x, image_u = batch_x["img"], batch_x["label"], batch_u["img"]
        return image_x.to(self.device), label_x.to(self.device), image_u.to(self.device)


def _result_of(found: CheckpointSet | None) -> tuple[str, float | None, int] | None:
    """Return path, validation result and epoch of the best model."""
    if found is None:
        return None
    path, checkpoint = next(iter(found.values()))
    result = checkpoint.get("val_result")
    return str(path), None if result is None else float(result), set_epoch(found)


def _endless(loader: Iterable[Item]) -> Iterator[Item]:
    while True:
        yield from loader


def _choose_device(cfg: CfgNode) -> torch.device:
    """Return the CUDA device if available and USE_CUDA is set, otherwise the CPU."""
    count = distributed.world_size()
    if cfg.USE_CUDA and torch.cuda.is_available():
        if count > 1:
            distributed.set_device()
            print(f"Processes: {count}, backend nccl, one GPU each")
        print(f"Device: cuda ({torch.cuda.get_device_name()})")
        return torch.device("cuda")
    if count > 1:
        print(f"Processes: {count}, backend gloo")
    print(f"Device: cpu ({'no CUDA device found' if cfg.USE_CUDA else 'USE_CUDA is False'})")
    return torch.device("cpu")
