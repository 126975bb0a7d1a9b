"""The registry of evaluators."""

from typing import Any

from yacs.config import CfgNode

from ..config import complete
from ..utils.registry import Registry

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: CfgNode, **kwargs: Any) -> Any:
    """Build the evaluator named by cfg.TEST.EVALUATOR; `kwargs` are passed to it."""
    cfg = complete(cfg)
    evaluator = EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)
    if cfg.VERBOSE:
        print(f"Loading evaluator: {cfg.TEST.EVALUATOR}")
    return evaluator(cfg, **kwargs)
