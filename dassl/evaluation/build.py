"""The table of evaluators."""

from typing import Any

from yacs.config import CfgNode

from ..utils.registry import Registry

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: CfgNode, **kwargs: Any) -> Any:
    """Build the evaluator that cfg.TEST.EVALUATOR names; `kwargs` go to it."""
    evaluator = EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)
    if cfg.VERBOSE:
        print(f"Loading evaluator: {cfg.TEST.EVALUATOR}")
    return evaluator(cfg, **kwargs)
