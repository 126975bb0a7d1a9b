"""TRAINER.COMPILE: the towers through torch.compile, at the shapes that a run repeats.

A compiled graph holds for one batch size, so other batches (the last, smaller one of a test) run as
they are instead of being compiled anew. Text features are compiled for training alone: at test they
are computed once. docs/speed.md has the measured ratios.
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from .encode import ImageTokens
from .settings import SettingsError

__all__ = ["check_compiler", "compile_towers"]


def check_compiler(device: torch.device) -> None:
    """Compile something small, so that a missing compiler is told before a training starts.

    Raises:
        SettingsError: torch.compile does not work here (it needs a C++ compiler, on CUDA Triton).
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(4, device=device))
    except Exception as error:  # each backend has its own; all mean the same, and none is hidden
        needs = "Triton and a C compiler" if device.type == "cuda" else "a C++ compiler"
        reason = str(error).strip().splitlines()[0]
        raise SettingsError(
            f"TRAINER.COMPILE True needs {needs}, and torch.compile fails here ({reason}): install "
            "it, or leave COMPILE out"
        ) from error


def compile_towers(learner: Any, batch_sizes: Collection[int], backend: str = "inductor") -> None:
    """Put compiled functions in place of the learner's `encode_image` and `encode_text`.

    Args:
        learner: a `PromptLearner`.
        batch_sizes: of the loaders; images in other numbers are encoded as before.
        backend: of torch.compile.
    """
    plain_image, plain_text = learner.encode_image, learner.encode_text
    compiled_image = torch.compile(plain_image, dynamic=False, backend=backend)
    compiled_text = torch.compile(plain_text, dynamic=False, backend=backend)

    def encode_image(image: Tensor, local: bool) -> ImageTokens:
        known = len(image) in batch_sizes
        return compiled_image(image, local) if known else plain_image(image, local)

    def encode_text(features: Tensor | None = None) -> Tensor:
        training = torch.is_grad_enabled()
        return compiled_text(features) if training else plain_text(features)

    learner.encode_image, learner.encode_text = encode_image, encode_text
