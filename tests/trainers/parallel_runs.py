"""Train in one process or, with torchrun's environment, in 2 and then in 4:

    python tests/trainers/parallel_runs.py WORLD OUTPUT

WORLD is the folder of a ToyWorld. OUTPUT/<processes>/<case>.pt is written with all that must not
depend on their number. Processes are forked after the imports, which take longest.
"""

import hashlib
import os
import socket
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dassl.utils import distributed
from tests.trainers.parallel_checks import CHECKS
from tests.trainers.toy_runs import TEST_CASES, ToyWorld, learned

BEST = ("TEST.NO_TEST", False, "TEST.FINAL_MODEL", "best_val", "TRAIN.CHECKPOINT_FREQ", 1)


class Case(NamedTuple):
    """A run of 3 steps per epoch, in float32 or, to exclude rounding effects, in float64.

    With ``stored``, features are read from a store that the processes fill.
    """

    trainer: str
    epochs: int = 2
    opts: tuple[Any, ...] = ()
    double: bool = True
    stored: bool = False


CASES = {name: Case(name) for name, _ in TEST_CASES if name != "TextRefiner"}
CASES["without_gradients"] = Case("TextRefinerCoOp", opts=("TRAINER.TEXTREFINER.LOCAL", False))
for name in ("TextRefinerCoOp", "TextRefinerPromptKD"):
    CASES[f"{name}-long"] = Case(name, epochs=7)
    CASES[f"{name}-fp32"] = Case(name, epochs=7, opts=("OPTIM.LR", 0.002), double=False)
    views = ("OPTIM.LR", 0.002, "DATALOADER.VIEWS", 2)
    CASES[f"{name}-stored-fp32"] = Case(name, epochs=3, opts=views, double=False, stored=True)

RUN_BY = {2: list(CASES), 4: [name for name in CASES if "-" in name]}


def build(world: ToyWorld, case: Case, output: Path) -> Any:
    """Return the trainer of a case; its initial values must be synchronized across processes."""
    opts = [*BEST, "OPTIM.MAX_EPOCH", case.epochs, *case.opts]
    opts += ["DATALOADER.FEATURE_STORE", str(output / "store")] if case.stored else []
    trainer = world.build(case.trainer, output, *opts)
    if case.double:
        make_double(trainer)
    return trainer


def run(world: ToyWorld, case: Case, output: Path) -> dict[str, Any]:
    """Train; return losses and cache of every step, weights, and decisions."""
    trainer = build(world, case, output)
    steps, seen = [], []
    step, test = trainer.forward_backward, trainer.test

    def recording(batch: Any) -> Any:
        summary = step(batch)
        cache = {"cache": trainer.model.refiner.cache.entries} if trainer.refined else {}
        steps.append({**summary, **cache})  # the cache is reassigned, never modified in place
        return summary

    def testing(split: Any = None) -> Any:
        seen.append(test(split))
        return seen[-1]

    trainer.forward_backward, trainer.test = recording, testing
    trainer.train()
    same(digest(learned(trainer)), "models")
    same(seen, "results")
    decided = {"results": seen, "best": trainer.best_epoch, "last": trainer.last_test}
    return {"steps": steps, "learned": learned(trainer), "decided": decided}


def same(value: Any, what: str) -> None:
    """Check that all processes have the same value."""
    values = distributed.all_gather(value)
    assert values == values[:1] * len(values), f"the processes have different {what}: {values}"


def digest(state: dict[str, Any]) -> str:
    """Return a hash of the exact contents of a state dict."""
    whole = hashlib.sha256()
    for key, value in sorted(state.items()):
        whole.update(key.encode() + value.cpu().numpy().tobytes())
    return whole.hexdigest()


def make_double(trainer: Any) -> None:
    """Convert encoders, learner, refiner and images to float64."""
    trainer.model.double()
    for name in ("parse_batch_train", "parse_batch_test"):
        parse = getattr(trainer, name)
        setattr(trainer, name, lambda batch, parse=parse: parse(_double(batch)))


def _double(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "img": batch["img"].to(torch.float64)}


def work(rank: int, count: int, port: int, folder: Path, output: Path) -> None:
    """Run the cases in one of ``count`` processes and, if there are two, the checks."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    values = (rank, rank, count, "localhost", port)
    os.environ.update(zip(names, map(str, values), strict=True))
    world, output = ToyWorld(folder), output / str(count)
    with distributed.process_group():
        for name in RUN_BY[count]:
            found = run(world, CASES[name], output / name)
            if distributed.is_main():
                torch.save(found, output / f"{name}.pt")
        for check in CHECKS if count == 2 else []:
            check(world, output)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        return int(taken.getsockname()[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    for count in RUN_BY:
        arguments = (count, free_port(), Path(sys.argv[1]), Path(sys.argv[2]))
        torch.multiprocessing.start_processes(work, arguments, count, start_method="fork")
