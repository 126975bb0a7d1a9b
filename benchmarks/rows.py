"""The rows: what is measured beside what."""

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import Any

import torch

from trainers.encode import encode_text
from trainers.prompts import ContextPrompts
from trainers.refiner import updated_entries

from . import naive
from .timing import flops, in_turns, paired_ratio
from .world import CONTEXT, World, class_names

__all__ = [
    "METHODS",
    "Row",
    "cache_update",
    "eval_batch",
    "refiner_cost",
    "text_tower",
    "train_step",
]

METHODS = (
    "CoOp",
    "TextRefinerCoOp",
    "CoCoOp",
    "TextRefinerCoCoOp",
    "MaPLe",
    "PromptSRC",
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
        note: what else a reader must know.
    """

    what: str
    naive: float
    fast: float
    naive_gflop: float = 0.0
    fast_gflop: float = 0.0
    images: int = 0
    wanted: float = 0.0
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


def _row(
    what: str,
    slow: Callable[[], Any],
    fast: Callable[[], Any],
    world: World,
    budget: float,
    **more: Any,
) -> Row:
    """Both in turns; the runs that count the operations are a first warm-up."""
    naive_gflop, fast_gflop = (flops(run) / 1e9 for run in (slow, fast))
    times = in_turns({"naive": slow, "fast": fast}, world.cuda, budget, most=7, warm=True)
    return Row(what, times["naive"], times["fast"], naive_gflop, fast_gflop, **more).shown()


def naive_step(trainer: Any, slow: naive.Naive, batch: dict[str, torch.Tensor]) -> None:
    """One optimisation step of the plain implementation; the loss is read, as the family does."""
    step = slow.training_step(batch["img"], batch["label"])
    loss = torch.stack(list(step.losses.values())).sum()
    trainer.optim.zero_grad()
    loss.backward()
    trainer.optim.step()
    loss.item()


@lru_cache(maxsize=1)  # rows of one method follow one another; two methods' weights need 8 GB
def _pair(world: World, name: str, classes: int) -> tuple[Any, naive.Naive]:
    trainer = world.trainer(name, classes, batch=4)  # of its loader, which no row reads
    slow = naive.model_of(trainer, CONTEXT)
    if name == "PromptSRC":  # encoded once in either; the plain way would take minutes
        slow.frozen_text = trainer.model.learner.frozen_text()
    return trainer, slow


def train_step(
    world: World, name: str, classes: int, batch: int, budget: float, wanted: float = 0.0
) -> Row:
    """One optimisation step, by the trainer's own `forward_backward`."""
    trainer, slow = _pair(world, name, classes)
    trainer.set_model_mode("train")
    slow.train()
    data = world.batch(batch, classes)
    what = f"{name} train step, {classes} classes, batch {batch}"

    def step() -> None:
        trainer.forward_backward(data)

    return _row(
        what, lambda: naive_step(trainer, slow, data), step, world, budget, images=batch,
        wanted=wanted,
    )  # fmt: skip


def eval_batch(
    world: World,
    name: str,
    classes: int,
    batch: int,
    budget: float,
    wanted: Mapping[str, float] | None = None,
) -> list[Row]:
    """One test batch; text that does not depend on images is computed before, as in a test.

    Args:
        wanted: precision -> ratio, a row for each; naive computes in fp32 and has its turns once.
    """
    wanted = wanted or {"fp32": 0.0}
    trainer, slow = _pair(world, name, classes)
    trainers = {
        precision: trainer if precision == "fp32" else world.trainer(name, classes, 4, precision)
        for precision in wanted
    }
    slow.eval()
    image = world.batch(batch, classes)["img"]

    @torch.no_grad()
    def fast(trainer: Any) -> None:
        with trainer.autocast():
            trainer.model_inference(image)

    runs: dict[str, Callable[[], Any]] = {"naive": lambda: slow(image)}
    with contextlib.ExitStack() as stack:
        for precision, each in trainers.items():
            each.set_model_mode("eval")
            stack.enter_context(each.model.cached_text())
            runs[precision] = partial(fast, each)
        counts = {key: flops(run) / 1e9 for key, run in runs.items()}
        times = in_turns(runs, world.cuda, budget, most=7, warm=True)
    what = f"{name} test, {classes} classes, batch {batch}"
    rows = []
    for precision, ratio in wanted.items():
        told = what if precision == "fp32" else f"{what}, {precision} against naive's fp32"
        seconds, count = times[precision], counts[precision]
        row = Row(told, times["naive"], seconds, counts["naive"], count, batch, ratio)
        rows.append(row.shown())
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
    return _row(what, slow, fast, world, budget, wanted=wanted)


def cache_update(world: World, entries: int, tokens: int, budget: float) -> Row:
    """One write to the cache, against the loop over entries."""
    cache = torch.nn.functional.normalize(torch.rand(entries, 512, device=world.device), dim=-1)
    local = torch.randn(tokens, 512, device=world.device)
    return _row(
        f"cache update, {entries} entries, {tokens} tokens",
        lambda: naive.update_cache(cache, local, 0.8),
        lambda: updated_entries(cache, local, 0.8),
        world,
        budget,
    )


def refiner_cost(world: World, classes: int, batch: int, budget: float) -> dict[str, Any]:
    """Percent by which TextRefiner on CoOp takes longer than CoOp, both fast: step and test."""
    trainers = [world.trainer(name, classes, batch) for name in METHODS[:2]]
    data = world.batch(batch, classes)
    found: dict[str, Any] = {"what": f"{classes} classes, batch {batch}"}

    def compare(name: str, runs: list[Callable[[], Any]], most: int) -> None:
        plain, refined = (flops(run) for run in runs)
        ratio = paired_ratio(runs[0], runs[1], world.cuda, budget, most)
        found[f"{name}_percent"] = 100 * (ratio - 1)
        found[f"{name}_percent_of_operations"] = 100 * (refined / plain - 1)

    compare("step", [partial(trainer.forward_backward, data) for trainer in trainers], most=9)
    with contextlib.ExitStack() as stack, torch.no_grad():
        for trainer in trainers:
            trainer.set_model_mode("eval")
            stack.enter_context(trainer.model.cached_text())
        compare("test", [partial(trainer.model_inference, data["img"]) for trainer in trainers], 15)
    print(f"cost of TextRefiner over CoOp: {found}", flush=True)
    return found
