"""Utilities for the weights and layers of a model."""

from collections.abc import Callable

from torch import nn

from .checkpoint import load_checkpoint, without_module_prefix
from .checkpoint import resume_from_checkpoint as resume_from_checkpoint
from .checkpoint import save_checkpoint as save_checkpoint
from .errors import UsageError, nearest
from .tools import PathLike


def count_num_param(model: nn.Module) -> int:
    """Return the number of parameters, trainable or not."""
    return sum(parameter.numel() for parameter in model.parameters())


def open_all_layers(model: nn.Module) -> None:
    """Set all layers to train mode with gradients."""
    model.train()
    model.requires_grad_(True)


def open_specified_layers(model: nn.Module, open_layers: str | list[str]) -> None:
    """Train the named children of `model`; freeze all others (eval mode, no gradients)."""
    if isinstance(model, nn.DataParallel):
        model = model.module
    names = [open_layers] if isinstance(open_layers, str) else open_layers
    children = dict(model.named_children())
    for name in names:
        if name not in children:
            raise UsageError(f"the model has no layer {name!r}: {nearest(name, children)}")
    for name, child in children.items():
        child.train(name in names)
        child.requires_grad_(name in names)


def load_pretrained_weights(model: nn.Module, weight_path: PathLike) -> None:
    """Load the weights that match `model` in name and shape; print which do not.

    The file is a checkpoint (with "state_dict") or a state dict, optionally with the prefix
    "module.".

    Raises:
        UsageError: the file cannot be read, or no weight matches.
    """
    checkpoint = load_checkpoint(weight_path)
    weights = without_module_prefix(checkpoint.get("state_dict", checkpoint))
    own = model.state_dict()
    matched = {
        key: value
        for key, value in weights.items()
        if key in own and own[key].shape == getattr(value, "shape", None)
    }
    discarded = [key for key in weights if key not in matched]
    if not matched:
        raise UsageError(
            f"no weight in {str(weight_path)!r} matches the model in name and shape; "
            f"the file has {_some(list(weights))}, the model has {_some(list(own))}"
        )
    model.load_state_dict(own | matched)
    print(f"Loaded {len(matched)} weights from {weight_path}: {_some(list(matched))}")
    if discarded:
        print(f"Discarded due to unmatched name or shape: {', '.join(discarded)}")
    kept = [key for key in own if key not in matched]
    if kept:
        print(f"Not in the file and unchanged: {', '.join(kept)}")


def _some(keys: list[str], limit: int = 8) -> str:
    more = f", ... ({len(keys)} in all)" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more


def init_network_weights(model: nn.Module, init_type: str = "normal", gain: float = 0.02) -> None:
    """Initialize convolutions and linear layers at random, biases with 0, norm layers with 1 and 0.

    `init_type` is normal, xavier, kaiming or orthogonal; `gain` is the standard deviation of
    "normal" and the gain of "xavier" and "orthogonal".
    """
    initializers: dict[str, Callable[..., object]] = {
        "normal": lambda weight: nn.init.normal_(weight, 0.0, gain),
        "xavier": lambda weight: nn.init.xavier_normal_(weight, gain=gain),
        "kaiming": lambda weight: nn.init.kaiming_normal_(weight, a=0, mode="fan_in"),
        "orthogonal": lambda weight: nn.init.orthogonal_(weight, gain=gain),
    }
    if init_type not in initializers:
        raise UsageError(
            f"unknown initialization {init_type!r}: {nearest(init_type, initializers)}"
        )
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            initializers[init_type](module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.modules.batchnorm._NormBase) and module.affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
