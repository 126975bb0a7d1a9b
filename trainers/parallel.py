"""Data-parallel training where torch.distributed runs (torchrun); nothing to do in one process.

What is trained here is small, so all gradients of a step go through one all-reduce after the
backward pass. What looks across the images of a batch, BatchNorm and the cache, is in refiner.py.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .refiner import all_reduce_, in_parallel

__all__ = ["all_reduce_gradients"]


def all_reduce_gradients(parameters: Iterable[nn.Parameter], *values: Tensor) -> tuple[Tensor, ...]:
    """Put the mean over all processes in place of each gradient; return the means of ``values``.

    With equal parts of a batch in all processes, and losses that are means over images, these are
    the gradients and the losses of the whole batch. A parameter without a gradient keeps none, and
    the optimizer passes it over as in one process: every process runs the same graph.
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
