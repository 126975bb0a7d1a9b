"""torch's optimizers, from cfg.OPTIM.

On CUDA they are fused where torch has them so (SGD, Adam, AdamW): one kernel a step, and a
GradScaler need not wait for the gradients. Elsewhere they are torch's default.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from yacs.config import CfgNode

from ..utils.errors import UsageError, nearest

Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]

Builder = Callable[..., Optimizer]

FUSED = ("sgd", "adam", "amsgrad", "adamw")  # torch has no fused RMSprop nor RAdam
# How a step is computed, which belongs to the machine: a checkpoint does not decide it.
IMPLEMENTATION = ("fused", "foreach")


def _sgd(params: Parameters, cfg: CfgNode, **options: Any) -> Optimizer:
    return torch.optim.SGD(
        params,
        lr=cfg.LR,
        momentum=cfg.MOMENTUM,
        weight_decay=cfg.WEIGHT_DECAY,
        dampening=cfg.SGD_DAMPNING,
        nesterov=cfg.SGD_NESTEROV,
        **options,
    )


def _rmsprop(params: Parameters, cfg: CfgNode, **options: Any) -> Optimizer:
    return torch.optim.RMSprop(
        params,
        lr=cfg.LR,
        momentum=cfg.MOMENTUM,
        weight_decay=cfg.WEIGHT_DECAY,
        alpha=cfg.RMSPROP_ALPHA,
        **options,
    )


def _adam_like(cls: Builder, **own: Any) -> Builder:
    def build(params: Parameters, cfg: CfgNode, **options: Any) -> Optimizer:
        betas = (cfg.ADAM_BETA1, cfg.ADAM_BETA2)
        rates = {"lr": cfg.LR, "weight_decay": cfg.WEIGHT_DECAY, "betas": betas}
        return cls(params, **rates, **own, **options)

    return build


OPTIMIZERS: dict[str, Builder] = {
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
    """Build the optimizer that `optim_cfg.NAME` names.

    Args:
        model: a module, its parameters, or parameter groups.
        optim_cfg: cfg.OPTIM.
        param_groups: what to optimize instead of `model`; STAGED_LR then has no effect (a warning
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
    groups = _as_groups(param_groups)
    options: dict[str, Any] = {}
    if optim_cfg.NAME in FUSED and all(p.is_cuda for group in groups for p in group["params"]):
        options["fused"] = True
    optimizer = OPTIMIZERS[optim_cfg.NAME](groups, optim_cfg, **options)
    optimizer.register_load_state_dict_pre_hook(_keep_implementation)
    return optimizer


def _as_groups(params: Any) -> list[dict[str, Any]]:
    """Parameters or groups of them, each once through an iterator, as groups of lists."""
    items = list(params)
    if items and not any(isinstance(item, dict) for item in items):
        items = [{"params": items}]
    return [
        {**group, "params": [p] if isinstance(p := group["params"], Tensor) else list(p)}
        for group in items
    ]


def _keep_implementation(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A state to load, whose groups are computed as those of ``optimizer`` are."""
    if len(state["param_groups"]) != len(optimizer.param_groups):
        return state  # torch says what does not fit
    groups = [
        {**saved, **{key: own[key] for key in IMPLEMENTATION if key in own}}
        for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**state, "param_groups": groups}


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
