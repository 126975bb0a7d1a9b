"""Optimizers of cfg.OPTIM.

On CUDA, torch's fused implementations are used if available (SGD, Adam, AdamW): they need one
kernel per step, and a GradScaler does not wait for the gradients.
"""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from yacs.config import CfgNode

from ..config import complete
from ..utils.errors import UsageError, nearest

Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]

FUSED = ("sgd", "adam", "amsgrad", "adamw")  # torch has no fused RMSprop or RAdam
# Options of the implementation, which are not taken from a checkpoint.
IMPLEMENTATION = ("fused", "foreach")


def _sgd_options(cfg: CfgNode) -> dict[str, Any]:
    return {"momentum": cfg.MOMENTUM, "dampening": cfg.SGD_DAMPNING, "nesterov": cfg.SGD_NESTEROV}


def _adam_options(cfg: CfgNode, **options: Any) -> dict[str, Any]:
    return {"betas": (cfg.ADAM_BETA1, cfg.ADAM_BETA2), "eps": cfg.ADAM_EPS, **options}


# name -> (class, its options besides learning rate and weight decay)
OPTIMIZERS: dict[str, tuple[Callable[..., Optimizer], Callable[[CfgNode], dict[str, Any]]]] = {
    "sgd": (torch.optim.SGD, _sgd_options),
    "rmsprop": (
        torch.optim.RMSprop,
        lambda cfg: {"momentum": cfg.MOMENTUM, "alpha": cfg.RMSPROP_ALPHA},
    ),
    "adam": (torch.optim.Adam, _adam_options),
    "amsgrad": (torch.optim.Adam, lambda cfg: _adam_options(cfg, amsgrad=True)),
    "adamw": (torch.optim.AdamW, _adam_options),
    # The original's RAdam has decoupled weight decay.
    "radam": (torch.optim.RAdam, lambda cfg: _adam_options(cfg, decoupled_weight_decay=True)),
}


AVAI_OPTIMS = list(OPTIMIZERS)


def build_optimizer(
    model: nn.Module | Parameters, optim_cfg: CfgNode, param_groups: Parameters | None = None
) -> Optimizer:
    """Build the optimizer named by `optim_cfg.NAME`.

    `model` is a module, its parameters, or parameter groups. `param_groups` are optimized instead
    of it; STAGED_LR is then ignored with a warning.

    Raises:
        UsageError: an unknown name, or STAGED_LR cannot be applied.
    """
    optim_cfg = complete(optim_cfg, "OPTIM")
    if optim_cfg.NAME not in OPTIMIZERS:
        raise UsageError(
            f"OPTIM.NAME {optim_cfg.NAME!r} is unknown: {nearest(optim_cfg.NAME, OPTIMIZERS)}"
        )
    if param_groups is not None:
        if optim_cfg.STAGED_LR:
            warnings.warn(
                "OPTIM.STAGED_LR has no effect: the trainer sets its own parameter groups",
                stacklevel=2,
            )
    elif optim_cfg.STAGED_LR:
        if not isinstance(model, nn.Module):
            raise UsageError("OPTIM.STAGED_LR needs a module with named layers, got parameters")
        param_groups = _staged_groups(model, optim_cfg)
    else:
        param_groups = model.parameters() if isinstance(model, nn.Module) else model
    groups = _as_groups(param_groups)
    cls, get_options = OPTIMIZERS[optim_cfg.NAME]
    options = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY, **get_options(optim_cfg)}
    if optim_cfg.NAME in FUSED and all(p.is_cuda for group in groups for p in group["params"]):
        options["fused"] = True
    optimizer = cls(groups, **options)
    optimizer.register_load_state_dict_pre_hook(_keep_implementation)
    return optimizer


def _as_groups(params: Any) -> list[dict[str, Any]]:
    """Convert parameters or parameter groups, possibly iterators, to groups of lists."""
    items = list(params)
    if items and not any(isinstance(item, dict) for item in items):
        items = [{"params": items}]
    return [
        {**group, "params": [p] if isinstance(p := group["params"], Tensor) else list(p)}
        for group in items
    ]


def _keep_implementation(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Return a state to load with the implementation options of ``optimizer``."""
    if len(state["param_groups"]) != len(optimizer.param_groups):
        return state  # torch reports the mismatch
    groups = [
        {**saved, **{key: own[key] for key in IMPLEMENTATION if key in own}}
        for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**state, "param_groups": groups}


def _staged_groups(model: nn.Module, optim_cfg: CfgNode) -> list[dict[str, Any]]:
    """Return two groups: new layers with LR, all others with LR * BASE_LR_MULT."""
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
