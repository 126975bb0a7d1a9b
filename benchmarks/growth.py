"""How cost grows with classes, batch, tokens and cache entries; and what a step waits for."""

import contextlib
import io
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from trainers.encode import encode_image, encode_text
from trainers.prompting.contexts import ContextPrompts
from trainers.refiner import updated_entries

from .timing import in_turns, power_law, seconds
from .world import World, class_names

__all__ = ["data_share", "growth"]


def growth(world: World, budget: float, full: bool) -> list[dict[str, Any]]:
    """Seconds at several sizes of one thing each, and the exponent k of cost ~ size^k."""
    frozen = world.clip()
    more = (400, 800) if full else ()
    kinds: dict[str, tuple[Sequence[int], Callable[[int], Callable[[], Any]]]] = {
        "text step against classes": ((25, 50, 100, 200, *more), _text_of(world, frozen, 4)),
        "text step against context tokens (100 classes)": (
            (4, 8, 16, 32),
            lambda n: _text_of(world, frozen, n)(100),
        ),
        "image tower against batch": ((1, 2, 4, 8), _images_of(world, frozen)),
        "cache update against entries (788 tokens)": (
            (25, 100, 400, 1600),
            lambda n: _update_of(world, n, 788),
        ),
        "cache update against tokens (25 entries)": (
            (197, 788, 3152),
            lambda n: _update_of(world, 25, n),
        ),
    }
    found = []
    for what, (sizes, make) in kinds.items():
        runs = {str(size): make(size) for size in sizes}
        times = in_turns(runs, world.cuda, budget, most=5)
        costs = [times[str(size)] for size in sizes]
        exponent = power_law(sizes, costs)
        print(f"{what}: cost ~ size^{exponent:.2f}", flush=True)
        found.append({"what": what, "sizes": list(sizes), "seconds": costs, "exponent": exponent})
    return found


def _text_of(world: World, frozen: Any, tokens: int) -> Callable[[int], Callable[[], Any]]:
    def make(classes: int) -> Callable[[], Any]:
        with contextlib.redirect_stdout(io.StringIO()):
            prompts = ContextPrompts(frozen, class_names(classes), n_ctx=tokens).to(world.device)
        return lambda: encode_text(frozen, *prompts()).sum().backward()

    return make


def _images_of(world: World, frozen: Any) -> Callable[[int], Callable[[], Any]]:
    def make(batch: int) -> Callable[[], Any]:
        image = world.batch(batch, 1)["img"]

        @torch.no_grad()
        def run() -> None:
            encode_image(frozen.visual, image)

        return run

    return make


def _update_of(world: World, entries: int, tokens: int) -> Callable[[], Any]:
    cache = torch.nn.functional.normalize(torch.rand(entries, 512, device=world.device), dim=-1)
    local = torch.randn(tokens, 512, device=world.device)
    return lambda: updated_entries(cache, local, 0.8)


def data_share(world: World, classes: int, batch: int, steps: int = 4) -> dict[str, Any]:
    """The share of an epoch's steps, after the first, that waited for images from the disk."""
    trainer = world.trainer("TextRefinerCoOp", classes, batch)
    loader = iter(trainer.train_loader_x)
    first = next(loader)
    trainer.forward_backward(first)  # starts the workers and warms up
    waited, took = [], []
    for _ in range(steps):
        start = time.perf_counter()
        batch_of = next(loader)
        waited.append(time.perf_counter() - start)
        took.append(seconds(partial(trainer.forward_backward, batch_of), world.cuda))
    share = sum(waited) / (sum(waited) + sum(took))
    print(f"share of a step spent waiting for data: {100 * share:.2f} %", flush=True)
    return {"what": f"TextRefinerCoOp, {classes} classes, batch {batch}, 2 workers", "share": share}
