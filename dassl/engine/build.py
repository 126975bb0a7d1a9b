"""The table of trainers."""

from typing import Any

from yacs.config import CfgNode

from ..utils import distributed
from ..utils.errors import UsageError
from ..utils.registry import Registry

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg: CfgNode) -> Any:
    """Build the trainer that cfg.TRAINER.NAME names.

    Raises:
        UsageError: there is none of that name, or it would train apart from the others in each of
            several processes: those that do not say ``parallel = True``.
    """
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    count = distributed.world_size()
    if count > 1 and not getattr(trainer, "parallel", False):
        raise UsageError(
            f"{cfg.TRAINER.NAME} runs in one process: its own training step would train {count} "
            "models that know nothing of each other; start it with python instead of torchrun"
        )
    if cfg.VERBOSE:
        print(f"Loading trainer: {cfg.TRAINER.NAME}")
    return trainer(cfg)
