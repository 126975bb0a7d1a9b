"""train.py's command line on toy data, and restoring stdout after a run."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.trainers.toy_runs import ToyWorld


def short_run(world: ToyWorld, folder: Path) -> list[str]:
    """Return arguments of a short TextRefinerCoOp run in ``folder``/out, to be extended."""
    config = folder / "toy.yaml"
    config.write_text(
        f"""
MODEL:
  BACKBONE:
    NAME: "{world.clip}"
DATALOADER:
  NUM_WORKERS: 0
  TRAIN_X:
    BATCH_SIZE: 4
  TEST:
    BATCH_SIZE: 5
INPUT:
  SIZE: (32, 32)
  INTERPOLATION: "bicubic"
  TRANSFORMS: ["random_flip", "normalize"]
OPTIM:
  NAME: "sgd"
  LR: 0.02
  MAX_EPOCH: 2
  LR_SCHEDULER: "cosine"
  WARMUP_EPOCH: 1
  WARMUP_TYPE: "constant"
  WARMUP_CONS_LR: 1e-5
USE_CUDA: False
"""
    )
    return [
        *("--root", str(world.folder / "data"), "--seed", "1", "--trainer", "TextRefinerCoOp"),
        *("--dataset-config-file", "configs/datasets/caltech101.yaml"),
        *("--config-file", str(config), "--output-dir", str(folder / "out")),
    ]


def swap(command: list[str], flag: str, value: object) -> list[str]:
    """Return ``command`` with another value of ``flag``."""
    changed = list(command)
    changed[changed.index(flag) + 1] = str(value)
    return changed


@contextmanager
def own_console() -> Iterator[None]:
    """Restore stdout, which a run copies to its log until the process exits."""
    before = sys.stdout
    try:
        yield
    finally:
        if sys.stdout is not before and hasattr(sys.stdout, "close"):
            sys.stdout.close()
        sys.stdout = before


@pytest.fixture(autouse=True)
def console() -> Iterator[None]:
    """Use `own_console` around every test of a module that imports this fixture."""
    with own_console():
        yield
