"""Growth of the cost with classes, batch, tokens and cache entries; time waiting for data."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from trainers.encode import encode_image, encode_text
from trainers.prompting.contexts import ContextPrompts
from trainers.refiner import updated_entries

from .timing import in_turns, power_law, seconds
from .world import World, class_names, quiet

__all__ = ["data_share", "growth"]


def growth(world: World, budget: float, full: bool) -> list[dict[str, Any]]:
    """Measure the cost at several sizes, and the exponent k of cost ~ size^k."""
    frozen = world.clip()
    more = (400, 800) if full else ()

    def text(classes: int, tokens: int) -> Callable[[], Any]:
        with quiet():
            prompts = ContextPrompts(frozen, class_names(classes), n_ctx=tokens).to(world.device)
        return lambda: encode_text(frozen, *prompts()).sum().backward()

    def image(batch: int) -> Callable[[], Any]:
        return partial(torch.no_grad()(encode_image), frozen.visual, world.batch(batch, 1)["img"])

    def update(entries: int, tokens: int) -> Callable[[], Any]:
        cache = F.normalize(torch.rand(entries, 512, device=world.device), dim=-1)
        local = torch.randn(tokens, 512, device=world.device)
        return lambda: updated_entries(cache, local, 0.8)

    kinds: dict[str, tuple[Sequence[int], Callable[[int], Callable[[], Any]]]] = {
        "text step against classes": ((25, 50, 100, 200, *more), lambda n: text(n, 4)),
        "text step against context tokens (100 classes)": ((4, 8, 16, 32), lambda n: text(100, n)),
        "image tower against batch": ((1, 2, 4, 8), image),
        "cache update against entries (788 tokens)": (
            (25, 100, 400, 1600),
            lambda n: update(n, 788),
        ),
        "cache update against tokens (25 entries)": ((197, 788, 3152), lambda n: update(25, n)),
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


def data_share(world: World, classes: int, batch: int, steps: int = 4) -> dict[str, Any]:
    """Measure the share of an epoch, after its first step, spent waiting for images."""
    trainer = world.trainer("TextRefinerCoOp", classes, batch)
    loader = iter(trainer.train_loader_x)
    trainer.forward_backward(next(loader))  # warm-up
    waited, took = [], []
    for _ in range(steps):
        start = time.perf_counter()
        data = next(loader)
        waited.append(time.perf_counter() - start)
        took.append(seconds(partial(trainer.forward_backward, data), world.cuda))
    share = sum(waited) / (sum(waited) + sum(took))
    print(f"share of a step spent waiting for data: {100 * share:.2f} %", flush=True)
    return {"what": f"TextRefinerCoOp, {classes} classes, batch {batch}, 2 workers", "share": share}
