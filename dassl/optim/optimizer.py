"""torch's optimisers, from cfg.OPTIM."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from yacs.config import CfgNode

from ..utils.errors import UsageError, nearest

Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]


def _sgd(params: Parameters, cfg: CfgNode) -> Optimizer:
    return torch.optim.SGD(
        params,
        lr=cfg.LR,
        momentum=cfg.MOMENTUM,
        weight_decay=cfg.WEIGHT_DECAY,
        dampening=cfg.SGD_DAMPNING,
        nesterov=cfg.SGD_NESTEROV,
    )


def _rmsprop(params: Parameters, cfg: CfgNode) -> Optimizer:
    return torch.optim.RMSprop(
        params,
        lr=cfg.LR,
        momentum=cfg.MOMENTUM,
        weight_decay=cfg.WEIGHT_DECAY,
        alpha=cfg.RMSPROP_ALPHA,
    )


def _adam_like(cls: Callable[..., Optimizer], **options: Any) -> Callable[..., Optimizer]:
    def build(params: Parameters, cfg: CfgNode) -> Optimizer:
        betas = (cfg.ADAM_BETA1, cfg.ADAM_BETA2)
        return cls(params, lr=cfg.LR, weight_decay=cfg.WEIGHT_DECAY, betas=betas, **options)

    return build


OPTIMIZERS: dict[str, Callable[[Parameters, CfgNode], Optimizer]] = {
    "sgd": _sgd,
    "rmsprop": _rmsprop,
    "adam": _adam_like(torch.optim.Adam),
    "amsgrad": _adam_like(torch.optim.Adam, amsgrad=True),
    "adamw": _adam_like(torch.optim.AdamW),
    # The original's own RAdam took its weight decay from the weights, not from the gradient.
    "radam": _adam_like(torch.optim.RAdam, decoupled_weight_decay=True),
}


def build_optimizer(
    model: nn.Module | Parameters,
    optim_cfg: CfgNode,
    param_groups: Parameters | None = None,
) -> Optimizer:
    """Build the optimiser that `optim_cfg.NAME` names.

    Args:
        model: a module, its parameters, or parameter groups.
        optim_cfg: cfg.OPTIM.
        param_groups: what to optimise instead of `model`; STAGED_LR then has no effect (a warning
            says so), since the groups hold their own learning rates.

    Raises:
        UsageError: an unknown name, or STAGED_LR that cannot be applied.
    """
    if optim_cfg.NAME not in OPTIMIZERS:
        raise UsageError(
            f"OPTIM.NAME {optim_cfg.NAME!r} is unknown: {nearest(optim_cfg.NAME, OPTIMIZERS)}"
        )
    if param_groups is not None:
        if optim_cfg.STAGED_LR:
            warnings.warn(
                "OPTIM.STAGED_LR has no effect: the trainer gives parameter groups of its own",
                stacklevel=2,
            )
    elif optim_cfg.STAGED_LR:
        if not isinstance(model, nn.Module):
            raise UsageError("OPTIM.STAGED_LR needs a module to find layers in, got parameters")
        param_groups = _staged_groups(model, optim_cfg)
    else:
        param_groups = model.parameters() if isinstance(model, nn.Module) else model
    return OPTIMIZERS[optim_cfg.NAME](param_groups, optim_cfg)


def _staged_groups(model: nn.Module, optim_cfg: CfgNode) -> list[dict[str, Any]]:
    """Two groups: new layers at LR, everything else at LR * BASE_LR_MULT."""
    if isinstance(model, nn.DataParallel):
        model = model.module
    names = optim_cfg.NEW_LAYERS
    new_layers = [names] if isinstance(names, str) else list(names)
    children = dict(model.named_children())
    unknown = [name for name in new_layers if name not in children]
    if unknown or not new_layers:
        raise UsageError(
            f"OPTIM.STAGED_LR needs OPTIM.NEW_LAYERS to name layers of the model, got "
            f"{new_layers}: {nearest(unknown[0] if unknown else '', children)}"
        )
    new = [p for name in new_layers for p in children[name].parameters()]
    is_new = {id(p) for p in new}
    base = [p for p in model.parameters() if id(p) not in is_new]
    return [{"params": base, "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}, {"params": new}]
