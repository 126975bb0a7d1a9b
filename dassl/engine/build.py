"""The registry of trainers."""

from typing import Any

from yacs.config import CfgNode

from ..config import complete
from ..utils import distributed
from ..utils.errors import UsageError
from ..utils.registry import Registry

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg: CfgNode) -> Any:
    """Build the trainer named by cfg.TRAINER.NAME.

    Raises:
        UsageError: the trainer is unknown, or there are several processes and it does not declare
            ``parallel = True``.
    """
    cfg = complete(cfg)
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    count = distributed.world_size()
    if count > 1 and not getattr(trainer, "parallel", False):
        raise UsageError(
            f"{cfg.TRAINER.NAME} does not support several processes: it would train {count} "
            "independent models; start it with python instead of torchrun"
        )
    if cfg.VERBOSE:
        print(f"Loading trainer: {cfg.TRAINER.NAME}")
    return trainer(cfg)
