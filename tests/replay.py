"""Replay a recorded training run through this project's own trainer and print the deviations.

    python tests/replay.py tests/data/coop.npz
    python tests/replay.py tests/data/promptkd.npz

The trace contains CLIPs, images, the initial state and, after every optimization step, losses and
weights of the authors' code. Here the same images are written as PNG files, read by the data
loader, and trained on by the registered trainer with the trace's settings; every recorded quantity
is compared. Prints JSON with the largest absolute deviation of each; exit code 0 if all are within
their limits, 1 if not, 2 for a trace that cannot be replayed.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import trainers.trainer
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from tests.replay_kinds import KINDS, alignment_state, load_alignment
from tests.replay_trace import Deviations, Trace
from trainers import extend_cfg

Kind = Any  # one of KINDS


def register_dataset(kind: Kind, folder: Path) -> None:
    """Register the trace's images as the dataset ReplayTrace."""
    trace = kind.trace

    class ReplayTrace(DatasetBase):
        def __init__(self, cfg: Any) -> None:
            heldout = {
                split: trace.write_images(f"heldout/{split}", folder, classes[0])
                for split, (_, classes) in kind.heldout().items()
            }
            super().__init__(train_x=trace.write_images("batch", folder), **heldout)

        @property
        def classnames(self) -> list[str]:
            return trace.classnames

    DATASET_REGISTRY.register(ReplayTrace, force=True)


def make_cfg(kind: Kind, folder: Path, overrides: Mapping[str, Any]) -> Any:
    """Return the trace's settings as a config; ``overrides`` maps further keys to values."""
    trace, own = kind.trace, kind.trace.settings
    batch, _, height, width = trace["batch/0/img_uint8"].shape
    optimizer, schedule = own["optimizer"], own["lr_schedule"]
    cfg = get_cfg_default()
    extend_cfg(cfg)
    values = {
        "OUTPUT_DIR": str(folder / "output"),
        "SEED": own["seed"],
        "USE_CUDA": False,
        "DATASET.NAME": "ReplayTrace",
        "DATALOADER.NUM_WORKERS": 0,
        "DATALOADER.TRAIN_X.SAMPLER": "SequentialSampler",
        "DATALOADER.TRAIN_X.BATCH_SIZE": batch,
        "DATALOADER.TEST.BATCH_SIZE": trace["heldout/test/0/label"].shape[0],
        "INPUT.SIZE": (height, width),
        "INPUT.INTERPOLATION": "bicubic",
        "INPUT.TRANSFORMS": ("normalize",),
        "INPUT.PIXEL_MEAN": [0.48145466, 0.4578275, 0.40821073],
        "INPUT.PIXEL_STD": [0.26862954, 0.26130258, 0.27577711],
        "OPTIM.NAME": "sgd",
        "OPTIM.LR": schedule["lr"],
        "OPTIM.MOMENTUM": optimizer["momentum"],
        "OPTIM.SGD_DAMPNING": optimizer["dampening"],
        "OPTIM.SGD_NESTEROV": optimizer["nesterov"],
        "OPTIM.WEIGHT_DECAY": optimizer["weight_decay"],
        "OPTIM.LR_SCHEDULER": schedule["name"],
        "OPTIM.MAX_EPOCH": schedule["max_epoch"],
        "OPTIM.WARMUP_EPOCH": schedule["warmup_epoch"],
        "OPTIM.WARMUP_TYPE": "constant",
        "OPTIM.WARMUP_CONS_LR": schedule["warmup_cons_lr"],
        "OPTIM.WARMUP_RECOUNT": schedule.get("recount", True),
        "TEST.NO_TEST": True,
        "TRAINER.TEXTREFINER.CACHE_SIZE": own["memory_size"],
        "TRAINER.TEXTREFINER.MOMENTUM": float(own["momentum"]),
        "TRAINER.TEXTREFINER.ALPHA": float(own["alpha"]),
        "TRAINER.TEXTREFINER.TOPK": own["topk"],
        **kind.values(folder),
        **overrides,
    }
    cfg.merge_from_list([part for pair in values.items() for part in pair])
    cfg.freeze()
    return cfg


def set_initial_state(kind: Kind, model: Any, deviations: Deviations) -> None:
    """Load the recorded initial state of learner and refiner."""
    kind.set_initial_state(model, deviations)
    with torch.no_grad():
        model.refiner.aggregate.weight.copy_(kind.trace.tensor("init/extractor"))
    cache = model.refiner.cache
    cache.entries = kind.trace.tensor("init/cache").to(cache.entries.device)
    load_alignment(model.refiner.align, kind.trace.tensors("init/mid_image_trans/"))


class RecordedOrder:
    """A train loader of the recorded batches; each epoch has its slice of them."""

    def __init__(self, trainer: Any, batches_per_epoch: int) -> None:
        self.trainer = trainer
        self.batches = list(trainer.train_loader_x)
        self.batches_per_epoch = batches_per_epoch

    def __len__(self) -> int:
        return self.batches_per_epoch

    def __iter__(self) -> Iterator[Any]:
        start = self.trainer.epoch * self.batches_per_epoch
        return iter(self.batches[start : start + self.batches_per_epoch])


class Recorder:
    """Wraps a trainer's step and compares its results with the trace."""

    def __init__(self, trainer: Any, kind: Kind, deviations: Deviations) -> None:
        self.trainer, self.kind, self.deviations = trainer, kind, deviations
        self.step = 0
        self.seen: dict[str, Any] = {}
        self.original_step = trainer.forward_backward
        trainer.forward_backward = self.forward_backward

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Keep the intermediate features of a step in ``self.seen``."""
        model = self.trainer.model
        watched = {
            "encode_image": (model.learner, "encode_image"),
            "refiner": (model.refiner, "forward"),
            "align": (model.refiner.align, "forward"),
            "salient_tokens": (trainers.trainer, "salient_tokens"),
            **self.kind.watched(model),
        }
        with contextlib.ExitStack() as stack:
            for key, (owner, name) in watched.items():
                stack.enter_context(self.watch(owner, name, key))
            yield

    @contextlib.contextmanager
    def watch(self, owner: Any, name: str, key: str) -> Iterator[None]:
        original: Callable[..., Any] = getattr(owner, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.seen[key] = original(*arguments, **options)
            return self.seen[key]

        setattr(owner, name, wrapped)
        try:
            yield
        finally:
            setattr(owner, name, original)

    def forward_backward(self, batch: Any) -> Any:
        """Run the trainer's step and compare it with everything recorded for this step."""
        lr = self.trainer.get_current_lr()
        with self.watching():
            summary = self.original_step(batch)
        own = self.quantities(summary, lr)
        self.deviations.step = self.step
        for key, value in self.kind.trace.below(f"step/{self.step}/").items():
            # One row for all prompts of the student: they share one limit.
            name = "student_prompts" if key.startswith("student_prompts/") else key
            self.deviations.add(name, own[key], value)
        self.step += 1
        return summary

    def quantities(self, summary: Any, lr: float) -> dict[str, Any]:
        """Return the quantities of a step in traces of every kind, and those of this kind."""
        model, seen, tokens = self.trainer.model, self.seen, self.seen["encode_image"]
        return {
            "epoch": self.trainer.epoch,
            "lr": lr,
            "loss": summary["loss"],
            "cache": model.refiner.cache.entries,
            "extractor": model.refiner.aggregate.weight,
            "debug/logit_scale": model.learner.logit_scale,
            "debug/image_fine": seen["align"],
            "debug/top_image_fine": seen["salient_tokens"],
            "debug/attn_last": tokens.saliency,
            "debug/raw_tokens_last": tokens.local,
            "debug/fine_text_features": seen["refiner"],
            "debug/grad_extractor": model.refiner.aggregate.weight.grad,
            **alignment_state(model.refiner.align, "debug/mid_image_trans_after"),
            **self.kind.quantities(model, summary, seen),
            **self.kind.debug(model, seen),
        }


@torch.no_grad()
def compare_evaluation(trainer: Any, kind: Kind, deviations: Deviations) -> None:
    """Compare the trained model's logits in eval mode and all else recorded at the end."""
    trainer.set_model_mode("eval")
    loaders = {"val": trainer.val_loader, "test": trainer.test_loader}
    text = trainer.model.class_features()
    for split, (prefix, classes) in kind.heldout().items():
        for i, batch in enumerate(loaders[split]):
            image, _ = trainer.parse_batch_test(batch)
            logits = trainer.model(image, text)[:, list(classes)]
            deviations.add("eval/logits", logits, kind.trace[f"{prefix}{i}"])
    kind.compare_end(trainer.model, deviations)


def find_kind(path: Path) -> Kind:
    """Return the kind of a trace by an array that only this kind contains, or None."""
    with np.load(path) as arrays:
        return next((kind for kind in KINDS if kind.mark in arrays), None)


def replay(
    path: Path,
    overrides: Mapping[str, Any] | None = None,
    deviations: Deviations | None = None,
) -> dict[str, Any]:
    """Train with the trace's settings and return the report that `main` prints.

    To replay in another precision or on another device, pass ``overrides`` (config KEY -> value)
    and a subclass of `Deviations`.
    """
    trace = Trace(path)
    kind = find_kind(path)(trace)
    if deviations is None:
        deviations = Deviations(kind.limits, kind.relative, kind.share)
    torch.set_num_threads(int(trace.settings.get("threads", 1)))
    with tempfile.TemporaryDirectory() as folder:
        register_dataset(kind, Path(folder))
        cfg = make_cfg(kind, Path(folder), overrides or {})
        set_random_seed(cfg.SEED)
        trainer = build_trainer(cfg)
        trainer.max_epoch = trace.settings["epochs"]
        trainer.train_loader_x = RecordedOrder(trainer, trace.settings["batches_per_epoch"])
        set_initial_state(kind, trainer.model, deviations)
        recorder = Recorder(trainer, kind, deviations)
        trainer.train()
        compare_evaluation(trainer, kind, deviations)
    expected = trace.settings["epochs"] * trace.settings["batches_per_epoch"]
    if recorder.step != expected:
        raise RuntimeError(f"replayed {recorder.step} steps, the trace has {expected}")
    return {
        "trace": str(path),
        "steps": recorder.step,
        "passed": deviations.passed,
        "deviations": dict(sorted(deviations.rows.items())),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trace", type=Path, help="a .npz in the format of tests/data/*.npz")
    path = parser.parse_args(argv).trace
    if not path.exists():
        parser.error(f"{path} does not exist")
    if find_kind(path) is None:
        marks = " nor ".join(kind.mark for kind in KINDS)
        parser.error(f"{path} is not a trace of TextRefiner: it contains neither {marks}")
    with contextlib.redirect_stdout(sys.stderr):  # stdout contains only the report
        report = replay(path)
    print(json.dumps(report, indent=2))
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
