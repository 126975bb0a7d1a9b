"""Replay a recorded training run through this project's own trainer and print the deviations.

    python tests/replay.py tests/data/coop.npz

The trace holds a CLIP, images, the initial state and, after every optimisation step, losses and
weights of the authors' code. Here the same images are written as PNG files, read by the data
loader, and trained on by the registered trainer with the trace's settings; every recorded quantity
is compared. Prints JSON with the largest absolute deviation of each; exit code 0 if all lie within
their limits, 1 if not, 2 for a trace that cannot be replayed.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import trainers.base
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from trainers import extend_cfg

# Five times what an independent implementation showed over such traces.
RECORDED = 5.0
LIMITS = {
    "loss": RECORDED * 6e-6,
    "loss1": RECORDED * 6e-6,
    "loss2": RECORDED * 1.6e-5,
    "loss3": RECORDED * 6e-9,
    "cache": RECORDED * 1.3e-7,
    "ctx": RECORDED * 5.4e-7,
    "extractor": RECORDED * 4e-8,
    "bn_running_mean": RECORDED * 8e-8,
    "eval/logits": RECORDED * 3.1e-5,
    # Settings and inputs: equal, not close.
    "epoch": 0.0,
    "lr": 1e-12,
    "init/ctx": 0.0,
    "init/tokenized_prompts": 0.0,
}
# Everything else (features, gradients, running variance): this share of its largest value.
RELATIVE_LIMIT = 2e-5

ALIGNMENT = {"conv1.0": "inner", "conv1.1": "norm", "conv1.3": "outer"}


class Deviations:
    """Largest absolute deviation of each quantity, and its limit."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, float]] = {}

    def add(self, name: str, actual: Any, recorded: Any) -> None:
        """Compare one recorded value; shapes must agree up to the 1x1 of a convolution."""
        if isinstance(actual, torch.Tensor):
            actual = actual.detach().double().cpu().numpy()
        recorded = np.asarray(recorded, dtype=np.float64)
        actual = np.asarray(actual, dtype=np.float64).reshape(recorded.shape)
        limit = LIMITS.get(name, RELATIVE_LIMIT * max(1.0, float(np.abs(recorded).max(initial=0))))
        row = self.rows.setdefault(name, {"max_abs": 0.0, "limit": limit})
        row["max_abs"] = max(row["max_abs"], float(np.abs(actual - recorded).max(initial=0)))
        row["limit"] = max(row["limit"], limit)

    @property
    def passed(self) -> bool:
        """Whether every quantity lies within its limit (NaN does not)."""
        return all(row["max_abs"] <= row["limit"] for row in self.rows.values())


class Trace:
    """A recorded run: arrays by name, and its settings."""

    def __init__(self, path: Path) -> None:
        self.arrays = dict(np.load(path))
        self.settings = json.loads(str(self.arrays["hparams"]))
        self.classnames = [str(name) for name in self.arrays["classnames"]]

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def tensor(self, key: str) -> torch.Tensor:
        """A recorded array as a float tensor."""
        return torch.from_numpy(np.array(self.arrays[key]))

    def below(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays whose name starts with ``prefix``, without it."""
        return {k[len(prefix) :]: v for k, v in self.arrays.items() if k.startswith(prefix)}

    def write_images(self, group: str, folder: Path) -> list[Datum]:
        """Write ``<group>/<i>/img_uint8`` as PNG files, in order."""
        items = []
        count = len({key.split("/")[0] for key in self.below(f"{group}/")})
        for batch in range(count):
            labels = self[f"{group}/{batch}/label"]
            for i, (image, label) in enumerate(
                zip(self[f"{group}/{batch}/img_uint8"], labels, strict=True)
            ):
                path = folder / f"{group.replace('/', '_')}_{batch}_{i:03d}.png"
                Image.fromarray(image.transpose(1, 2, 0)).save(path)
                name = self.classnames[int(label)]
                items.append(Datum(impath=str(path), label=int(label), classname=name))
        return items


def register_dataset(trace: Trace, folder: Path) -> None:
    """Register the trace's images as the data set ReplayTrace."""

    class ReplayTrace(DatasetBase):
        def __init__(self, cfg: Any) -> None:
            train = trace.write_images("batch", folder)
            super().__init__(train_x=train, test=trace.write_images("heldout/test", folder))

        @property
        def classnames(self) -> list[str]:
            return trace.classnames

    DATASET_REGISTRY.register(ReplayTrace, force=True)


def make_cfg(trace: Trace, folder: Path) -> Any:
    """The trace's settings as a config."""
    clip_path = folder / "clip.pt"
    torch.save(
        {k: torch.from_numpy(np.array(v)) for k, v in trace.below("clip/").items()}, clip_path
    )
    batch, _, height, width = trace["batch/0/img_uint8"].shape
    own = trace.settings
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
        "MODEL.BACKBONE.NAME": str(clip_path),
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
        "TRAINER.NAME": "TextRefinerCoOp",
        "TRAINER.COOP.N_CTX": own["n_ctx"],
        "TRAINER.COOP.CTX_INIT": own["ctx_init"],
        "TRAINER.COOP.CSC": trace["init/ctx"].ndim == 3,
        "TRAINER.COOP.CLASS_TOKEN_POSITION": own["class_token_position"],
        "TRAINER.COOP.PREC": "fp32",
        "TRAINER.TEXTREFINER.CACHE_SIZE": own["memory_size"],
        "TRAINER.TEXTREFINER.MOMENTUM": float(own["momentum"]),
        "TRAINER.TEXTREFINER.ALPHA": float(own["alpha"]),
        "TRAINER.TEXTREFINER.TOPK": own["topk"],
        "TRAINER.TEXTREFINER.LOCAL_WEIGHT": 1 / own["balance"],
        "TRAINER.TEXTREFINER.REG_WEIGHT": float(own["distill"]),
    }
    cfg.merge_from_list([part for pair in values.items() for part in pair])
    cfg.freeze()
    return cfg


def set_initial_state(trainer: Any, trace: Trace, deviations: Deviations) -> None:
    """Put the recorded start in place; the context must already start there by itself."""
    model = trainer.model
    if trace.settings["ctx_init"]:
        deviations.add("init/ctx", model.learner.prompts.ctx, trace["init/ctx"])
    eot = trace["init/tokenized_prompts"].argmax(-1)
    deviations.add("init/tokenized_prompts", model.learner.prompts.eot, eot)
    with torch.no_grad():
        model.learner.prompts.ctx.copy_(trace.tensor("init/ctx"))
        model.refiner.aggregate.weight.copy_(trace.tensor("init/extractor"))
    model.refiner.cache.entries = trace.tensor("init/cache")
    state = {}
    for key, value in trace.below("init/mid_image_trans/").items():
        layer, parameter = key.rsplit(".", 1)
        target = f"{ALIGNMENT[layer]}.{parameter}"
        own = model.refiner.align.state_dict()[target]
        state[target] = torch.from_numpy(np.array(value)).reshape(own.shape)
    model.refiner.align.load_state_dict(state)


class RecordedOrder:
    """The recorded batches as a train loader: each epoch serves its own slice of them."""

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
    """Wraps one trainer's step and compares what it computes with the trace."""

    def __init__(self, trainer: Any, trace: Trace, deviations: Deviations) -> None:
        self.trainer, self.trace, self.deviations = trainer, trace, deviations
        self.step = 0
        self.seen: dict[str, Any] = {}
        self.original_step = trainer.forward_backward
        trainer.forward_backward = self.forward_backward

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Keep the intermediate features of a step in ``self.seen``."""
        learner, refiner = self.trainer.model.learner, self.trainer.model.refiner
        with contextlib.ExitStack() as stack:
            for owner, name in (
                (learner, "encode_image"),
                (learner, "encode_text"),
                (refiner, "refine"),
                (refiner.align, "forward"),
                (trainers.base, "salient_tokens"),
            ):
                stack.enter_context(self.watch(owner, name))
            yield

    @contextlib.contextmanager
    def watch(self, owner: Any, name: str) -> Iterator[None]:
        original: Callable[..., Any] = getattr(owner, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.seen[name] = original(*arguments, **options)
            return self.seen[name]

        setattr(owner, name, wrapped)
        try:
            yield
        finally:
            setattr(owner, name, original)

    def forward_backward(self, batch: Any) -> Any:
        """The trainer's step, then the comparison."""
        lr = self.trainer.get_current_lr()
        with self.watching():
            summary = self.original_step(batch)
        prefix = f"step/{self.step}/"
        for key, value in self.quantities(summary, lr).items():
            self.deviations.add(key, value, self.trace[prefix + key])
        recorded = self.trace.below(prefix + "debug/")
        if recorded:
            own = self.debug_quantities()
            for key, value in recorded.items():
                self.deviations.add(f"debug/{key}", own[key], value)
        self.step += 1
        return summary

    def quantities(self, summary: Any, lr: float) -> dict[str, Any]:
        """What the trace holds of every step; its losses are unweighted."""
        model, settings = self.trainer.model, self.trainer.model.settings
        return {
            "epoch": self.trainer.epoch,
            "lr": lr,
            "loss": summary["loss"],
            "loss1": summary["ce"],
            "loss2": summary["semantic"] / settings.local_weight,
            "loss3": summary["regulariser"] / settings.reg_weight,
            "cache": model.refiner.cache.entries,
            "ctx": model.learner.prompts.ctx,
            "extractor": model.refiner.aggregate.weight,
            "bn_running_mean": model.refiner.align.norm.running_mean,
            "bn_running_var": model.refiner.align.norm.running_var,
        }

    def debug_quantities(self) -> dict[str, Any]:
        """What the trace holds of its first and last step."""
        model, tokens = self.trainer.model, self.seen["encode_image"]
        own = {
            "text_features": self.seen["encode_text"],
            "image_features": F.normalize(tokens.pooled, dim=-1),
            "logit_scale": model.learner.logit_scale,
            "image_fine": self.seen["forward"],
            "top_image_fine": self.seen["salient_tokens"],
            "attn_last": tokens.saliency,
            "raw_tokens_last": tokens.local,
            "fine_text_features": self.seen["refine"],
            "grad_ctx": model.learner.prompts.ctx.grad,
            "grad_extractor": model.refiner.aggregate.weight.grad,
        }
        align = model.refiner.align
        for old, new in ALIGNMENT.items():
            for name, parameter in getattr(align, new).named_parameters():
                own[f"grad_mid_image_trans/{old}.{name}"] = parameter.grad
            for name, value in getattr(align, new).state_dict().items():
                own[f"mid_image_trans_after/{old}.{name}"] = value
        return own


@torch.no_grad()
def compare_evaluation(trainer: Any, trace: Trace, deviations: Deviations) -> None:
    """Logits and text features of the trained model in eval mode."""
    trainer.set_model_mode("eval")
    with trainer.model.cached_text():
        for i, batch in enumerate(trainer.test_loader):
            image, _ = trainer.parse_batch_test(batch)
            recorded = trace[f"eval/logits/{i}"]
            deviations.add("eval/logits", trainer.model_inference(image), recorded)
    text = trainer.model.learner.encode_text()
    deviations.add("eval/text_features", text, trace["eval/text_features"])
    refined = trainer.model.refiner.refine(text)
    deviations.add("eval/fine_text_features", refined, trace["eval/fine_text_features"])


def replay(path: Path) -> dict[str, Any]:
    """Train as the trace did and return the report that `main` prints."""
    trace, deviations = Trace(path), Deviations()
    torch.set_num_threads(int(trace.settings.get("threads", 1)))
    with tempfile.TemporaryDirectory() as folder:
        register_dataset(trace, Path(folder))
        cfg = make_cfg(trace, Path(folder))
        set_random_seed(cfg.SEED)
        trainer = build_trainer(cfg)
        trainer.max_epoch = trace.settings["epochs"]
        trainer.train_loader_x = RecordedOrder(trainer, trace.settings["batches_per_epoch"])
        set_initial_state(trainer, trace, deviations)
        recorder = Recorder(trainer, trace, deviations)
        trainer.train()
        compare_evaluation(trainer, trace, deviations)
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
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trace", type=Path, help="a .npz in the format of tests/data/coop.npz")
    path = parser.parse_args(argv).trace
    if not path.exists():
        parser.error(f"{path} does not exist")
    with np.load(path) as arrays:
        if "init/ctx" not in arrays:
            parser.error(f"{path} is not a trace of TextRefiner on CoOp: it holds no init/ctx")
    with contextlib.redirect_stdout(sys.stderr):  # stdout is the report alone
        report = replay(path)
    print(json.dumps(report, indent=2))
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
