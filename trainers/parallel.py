"""Average gradients over processes in data-parallel training (torchrun).

The trained modules are small, so all gradients of a step take one all-reduce after the backward
pass. BatchNorm and cache, which combine the images of a batch, are in refiner.py.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .refiner import all_reduce_, in_parallel

__all__ = ["all_reduce_gradients"]


def all_reduce_gradients(parameters: Iterable[nn.Parameter], *values: Tensor) -> tuple[Tensor, ...]:
    """Replace each gradient by its mean over all processes; return the means of ``values``.

    If all processes have equal parts of a batch and losses are means over images, these are the
    gradients and losses of the whole batch. All processes run the same graph, so a parameter
    without a gradient has none in any of them, and the optimizer skips it.
    """
    if not in_parallel():
        return values
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    tensors = [*gradients, *values]
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    all_reduce_(flat, "SUM").div_(dist.get_world_size())
    means = [
        part.view_as(tensor).to(tensor.dtype)
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True)
    ]
    count = len(gradients)
    for gradient, mean in zip(gradients, means[:count], strict=True):
        gradient.copy_(mean)
    return tuple(means[count:])
