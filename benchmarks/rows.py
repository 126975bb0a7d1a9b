"""Measurements of the trainers against the plain implementation, as table rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import torch

from trainers.encode import encode_text, unit
from trainers.prompting.contexts import ContextPrompts
from trainers.refiner import updated_entries

from . import naive
from .timing import flops, in_turns
from .world import CONTEXT, World, class_names, quiet

__all__ = [
    "METHODS",
    "Row",
    "cache_update",
    "eval_batch",
    "extrapolate",
    "naive_step",
    "pair",
    "text_encoder",
    "train_step",
]

METHODS = tuple(prefix + name for name in naive.METHODS for prefix in ("", "TextRefiner"))


@dataclass
class Row:
    """Naive and fast code, measured in turns; optional numbers are 0 where they do not apply."""

    what: str
    naive: float  # median seconds
    fast: float
    naive_gflop: float = 0.0  # matrix products of one run
    fast_gflop: float = 0.0
    images: int = 0  # per run, for the throughput
    wanted: float = 0.0  # the project's target ratio
    classes: int = 0
    note: str = ""
    ratio: float = field(init=False)

    def __post_init__(self) -> None:
        self.ratio = self.naive / self.fast


def _measured(
    runs: Mapping[str, Callable[[], Any]], world: World, budget: float
) -> dict[str, tuple[float, float]]:
    """Return seconds and GFLOP of each run; counting the operations is the warm-up."""
    counts = {name: flops(run) / 1e9 for name, run in runs.items()}
    times = in_turns(runs, world.cuda, budget, most=7, warm=True)
    return {name: (times[name], counts[name]) for name in runs}


def _row(what: str, slow: tuple[float, float], fast: tuple[float, float], **more: Any) -> Row:
    """Return and print the row of (seconds, GFLOP) of both."""
    row = Row(what, slow[0], fast[0], slow[1], fast[1], **more)
    print(f"{what}: naive {row.naive:.3g} s, fast {row.fast:.3g} s, {row.ratio:.2f}x", flush=True)
    return row


def naive_step(trainer: Any, slow: naive.Naive, batch: dict[str, torch.Tensor]) -> None:
    """Run one optimization step of the plain implementation, including `loss.item()`."""
    step = slow.training_step(batch["img"], batch["label"])
    loss = torch.stack(list(step.losses.values())).sum()
    trainer.optim.zero_grad()
    loss.backward()
    trainer.optim.step()
    loss.item()


def pair(world: World, name: str, classes: int, batch: int) -> tuple[Any, naive.Naive]:
    """Return a trainer and the plain implementation with the same weights."""
    trainer = world.trainer(name, classes, batch)
    slow = naive.model_of(trainer, CONTEXT)
    if "PromptSRC" in name:
        # Both encode the frozen text features (60 templates per class) once before training;
        # random ones save minutes.
        drawn = torch.randn(classes, world.sizes["ViT-B/16"][0], device=world.device)
        slow.frozen_text = trainer.model.learner.frozen_text = unit(drawn)
    return trainer, slow


@lru_cache(maxsize=1)  # rows of a method are consecutive; weights of two methods need 8 GB
def _pair(world: World, name: str, classes: int) -> tuple[Any, naive.Naive]:
    return pair(world, name, classes, batch=4)  # batch size of the unused loader


def _beside_naive(
    runs: Mapping[str, Callable[[], Any]],
    slow: Callable[[], Any],
    fewer: Sequence[Row],
    classes: int,
    world: World,
    budget: float,
) -> tuple[dict[str, tuple[float, float]], str]:
    """Return seconds and GFLOP of ``runs`` and of naive, and a note on the latter."""
    if not fewer:
        return _measured({"naive": slow, **runs}, world, budget), ""
    low, high = fewer
    found = {**_measured(runs, world, budget), "naive": extrapolate(low, high, classes)}
    return found, f"naive: the line through {low.classes} and {high.classes} classes"


def extrapolate(low: Row, high: Row, classes: int) -> tuple[float, float]:
    """Return naive's seconds and GFLOP at ``classes`` by the line through two rows of fewer.

    If the line is negative at zero classes, the seconds are proportional to the number of classes,
    which gives the lower value.
    """
    share = (classes - low.classes) / (high.classes - low.classes)
    seconds = low.naive + share * (high.naive - low.naive)
    gflop = low.naive_gflop + share * (high.naive_gflop - low.naive_gflop)
    return min(seconds, high.naive * classes / high.classes), gflop


def train_step(
    world: World,
    name: str,
    classes: int,
    batch: int,
    budget: float,
    wanted: float = 0.0,
    fewer: Sequence[Row] = (),
) -> Row:
    """Measure one optimization step by the trainer's `forward_backward`.

    Naive is extrapolated instead of run if there are two rows of ``fewer`` classes.
    """
    trainer, slow = _pair(world, name, classes)
    trainer.set_model_mode("train")
    slow.train()
    data = world.batch(batch, classes)
    runs = {"fast": lambda: trainer.forward_backward(data)}
    step = partial(naive_step, trainer, slow, data)
    found, note = _beside_naive(runs, step, fewer, classes, world, budget)
    what = f"{name} train step, {classes} classes, batch {batch}"
    more = {"images": batch, "wanted": wanted, "classes": classes, "note": note}
    return _row(what, found["naive"], found["fast"], **more)


def eval_batch(
    world: World,
    name: str,
    classes: int,
    batch: int,
    budget: float,
    wanted: Mapping[str, float] | None = None,
    fewer: Sequence[Row] = (),
) -> list[Row]:
    """Measure one test batch; text features independent of images are computed beforehand.

    Each precision in ``wanted`` has one row; naive is measured once, in fp32.
    """
    wanted = wanted or {"fp32": 0.0}
    trainer, slow = _pair(world, name, classes)
    slow.eval()
    image = world.batch(batch, classes)["img"]

    @torch.no_grad()
    def fast(trainer: Any, infer: Callable[[torch.Tensor], torch.Tensor]) -> None:
        with trainer.autocast():
            infer(image)

    runs: dict[str, Callable[[], Any]] = {}
    for precision in wanted:
        each = trainer if precision == "fp32" else world.trainer(name, classes, 4, precision)
        each.set_model_mode("eval")
        runs[precision] = partial(fast, each, each.inference())
    found, note = _beside_naive(runs, partial(slow, image), fewer, classes, world, budget)
    rows = []
    for precision, ratio in wanted.items():
        what = f"{name} test, {classes} classes, batch {batch}"
        if precision != "fp32":
            what += f", {precision} against naive's fp32"
        more = {"images": batch, "wanted": ratio, "classes": classes, "note": note}
        rows.append(_row(what, found["naive"], found[precision], **more))
    return rows


def text_encoder(world: World, classes: int, budget: float, wanted: float = 0.0) -> Row:
    """Measure forward and backward of the text encoder alone with a context of 4 words."""
    frozen = world.clip()
    with quiet():
        prompts = ContextPrompts(frozen, class_names(classes), ctx_init=CONTEXT).to(world.device)
    words = naive.ClassPrompts(frozen, class_names(classes), CONTEXT)

    def fast() -> None:
        encode_text(frozen, *prompts()).sum().backward()

    def slow() -> None:
        naive.encode_text(frozen, words(prompts.ctx), words.ids).sum().backward()

    what = f"text tower, forward and backward, {classes} classes"
    found = _measured({"naive": slow, "fast": fast}, world, budget)
    return _row(what, found["naive"], found["fast"], wanted=wanted, classes=classes)


def cache_update(world: World, entries: int, tokens: int, budget: float) -> Row:
    """Measure one cache update against the loop over entries."""
    cache = torch.nn.functional.normalize(torch.rand(entries, 512, device=world.device), dim=-1)
    local = torch.randn(tokens, 512, device=world.device)
    runs = {
        "naive": lambda: naive.update_cache(cache, local, 0.8),
        "fast": lambda: updated_entries(cache, local, 0.8),
    }
    found = _measured(runs, world, budget)
    what = f"cache update, {entries} entries, {tokens} tokens"
    return _row(what, found["naive"], found["fast"])
