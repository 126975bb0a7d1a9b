"""The rows: what is measured beside what."""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import Any

import torch

from trainers.encode import encode_text, unit
from trainers.prompting.contexts import ContextPrompts
from trainers.refiner import updated_entries

from . import naive
from .timing import flops, in_turns
from .world import CONTEXT, World, class_names

__all__ = [
    "METHODS",
    "Row",
    "cache_update",
    "eval_batch",
    "naive_step",
    "on_line",
    "pair",
    "text_tower",
    "train_step",
]

METHODS = (
    "CoOp",
    "TextRefinerCoOp",
    "CoCoOp",
    "TextRefinerCoCoOp",
    "MaPLe",
    "TextRefinerMaPLe",
    "PromptSRC",
    "TextRefinerPromptSRC",
    "PromptKD",
    "TextRefinerPromptKD",
)


@dataclass
class Row:
    """Two things that were measured in turns.

    Attributes:
        what: of the row, with its sizes.
        naive, fast: median seconds.
        naive_gflop, fast_gflop: matrix products of one run; 0 where they were not counted.
        images: of one run, for the throughput; 0 where there are none.
        wanted: the ratio that the project set itself, 0 for none.
        classes: of the row, 0 where it has none.
        note: what else a reader must know.
    """

    what: str
    naive: float
    fast: float
    naive_gflop: float = 0.0
    fast_gflop: float = 0.0
    images: int = 0
    wanted: float = 0.0
    classes: int = 0
    note: str = ""
    ratio: float = field(init=False)

    def __post_init__(self) -> None:
        self.ratio = self.naive / self.fast

    def shown(self) -> "Row":
        """Print a line about itself."""
        times = f"naive {self.naive:.3g} s, fast {self.fast:.3g} s"
        print(f"{self.what}: {times}, {self.ratio:.2f}x", flush=True)
        return self

    def json(self) -> dict[str, Any]:
        """As it is written."""
        return asdict(self)


def _measured(
    runs: Mapping[str, Callable[[], Any]], world: World, budget: float
) -> dict[str, tuple[float, float]]:
    """Seconds and GFLOP of each; the runs that count the operations are the warm-up."""
    counts = {name: flops(run) / 1e9 for name, run in runs.items()}
    times = in_turns(runs, world.cuda, budget, most=7, warm=True)
    return {name: (times[name], counts[name]) for name in runs}


def _row(
    what: str,
    slow: tuple[float, float],
    fast: tuple[float, float],
    **more: Any,
) -> Row:
    """Of (seconds, GFLOP) of both."""
    return Row(what, slow[0], fast[0], slow[1], fast[1], **more).shown()


def naive_step(trainer: Any, slow: naive.Naive, batch: dict[str, torch.Tensor]) -> None:
    """One optimization step of the plain implementation; the loss is read, as the family does."""
    step = slow.training_step(batch["img"], batch["label"])
    loss = torch.stack(list(step.losses.values())).sum()
    trainer.optim.zero_grad()
    loss.backward()
    trainer.optim.step()
    loss.item()


def pair(world: World, name: str, classes: int, batch: int) -> tuple[Any, naive.Naive]:
    """A trainer, and the plain implementation over its weights."""
    trainer = world.trainer(name, classes, batch)
    slow = naive.model_of(trainer, CONTEXT)
    if "PromptSRC" in name:
        # The frozen CLIP's text is encoded once in either, before what is measured here: drawn, it
        # saves minutes (60 templates a class).
        drawn = torch.randn(classes, world.sizes["ViT-B/16"][0], device=world.device)
        slow.frozen_text = trainer.model.learner.frozen_text = unit(drawn)
    return trainer, slow


@lru_cache(maxsize=1)  # rows of one method follow one another; two methods' weights need 8 GB
def _pair(world: World, name: str, classes: int) -> tuple[Any, naive.Naive]:
    return pair(world, name, classes, batch=4)  # of its loader, which no row reads


def _beside_naive(
    runs: Mapping[str, Callable[[], Any]],
    slow: Callable[[], Any],
    fewer: Sequence[Row],
    classes: int,
    world: World,
    budget: float,
) -> tuple[dict[str, tuple[float, float]], str]:
    """Seconds and GFLOP of ``runs`` and of naive, and a note on the latter.

    With two rows of ``fewer`` classes naive does not run: `on_line` says its numbers.
    """
    if not fewer:
        return _measured({"naive": slow, **runs}, world, budget), ""
    low, high = fewer
    found = {**_measured(runs, world, budget), "naive": on_line(low, high, classes)}
    return found, f"naive: the line through {low.classes} and {high.classes} classes"


def on_line(low: Row, high: Row, classes: int) -> tuple[float, float]:
    """Naive's seconds and GFLOP at ``classes``, from two rows of fewer.

    The line through both, but not one that would be negative without classes: seconds are then
    taken as proportional to classes, which is less.
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
    """One optimization step, by the trainer's own `forward_backward`.

    Args:
        fewer: two rows with fewer classes; naive's numbers are then on the line through them, for
            each class is one more text.
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
    """One test batch; text that does not depend on images is computed before, as in a test.

    Args:
        wanted: precision -> ratio, a row for each; naive computes in fp32 and has its turns once.
        fewer: as for `train_step`.
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
        same = precision == "fp32"
        each = trainer if same else world.trainer(name, classes, 4, precision)
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


def text_tower(world: World, classes: int, budget: float, wanted: float = 0.0) -> Row:
    """Forward and backward of the text tower alone, context of 4 words."""
    frozen = world.clip()
    with contextlib.redirect_stdout(io.StringIO()):
        prompts = ContextPrompts(frozen, class_names(classes), ctx_init=CONTEXT).to(world.device)
    words = naive.ClassPrompts(frozen, class_names(classes), CONTEXT)

    def fast() -> None:
        encode_text(frozen, *prompts()).sum().backward()

    def slow() -> None:
        naive.text_tower(frozen, words(prompts.ctx), words.ids).sum().backward()

    what = f"text tower, forward and backward, {classes} classes"
    found = _measured({"naive": slow, "fast": fast}, world, budget)
    return _row(what, found["naive"], found["fast"], wanted=wanted, classes=classes)


def cache_update(world: World, entries: int, tokens: int, budget: float) -> Row:
    """One write to the cache, against the loop over entries."""
    cache = torch.nn.functional.normalize(torch.rand(entries, 512, device=world.device), dim=-1)
    local = torch.randn(tokens, 512, device=world.device)
    runs = {
        "naive": lambda: naive.update_cache(cache, local, 0.8),
        "fast": lambda: updated_entries(cache, local, 0.8),
    }
    found = _measured(runs, world, budget)
    what = f"cache update, {entries} entries, {tokens} tokens"
    return _row(what, found["naive"], found["fast"])
