"""The frozen CLIP that a trainer builds on, in the precision of the run (docs/precision.md)."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from clip import clip
from clip.model import convert_weights

from .encode import ImageTokens
from .settings import SettingsError

__all__ = ["check_compiler", "compile_towers", "in_half", "load_clip", "log_tf32"]

# PREC -> type of the towers' weights, where it is not float32
HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
# PREC -> what it means, for the log
MEANINGS = {
    "fp32": "everything in float32",
    "amp": "weights in float32, autocast to {half} in training, tests in float32",
    "bf16": "the towers' weights in bfloat16, what is trained in float32",
    "fp16": "the towers' weights in float16, what is trained in float32",
}


def load_clip(cfg: Any, precision: str, device: torch.device, name: str = "") -> tuple[Any, str]:
    """CLIP by name or cfg.MODEL.BACKBONE.NAME, in eval mode, and the precision it really has.

    fp16 is for CUDA: a CPU computes in it slowly, so there fp32 is used and said.
    """
    clip_model, preprocess = clip.load(name or cfg.MODEL.BACKBONE.NAME, device="cpu")
    warn_of_normalization(cfg, preprocess)
    clip_model = clip_model.float().eval()
    if precision == "fp16" and device.type != "cuda":
        print(
            f"warning: PREC fp16 is not supported on {device.type}: running in fp32 (bf16 and amp "
            "are the half precisions there)"
        )
        precision = "fp32"
    if precision in HALVES:
        in_half(clip_model, HALVES[precision])
    half = str(autocast_type(device)).removeprefix("torch.")
    print(f"Precision: {precision} on {device} ({MEANINGS[precision].format(half=half)})")
    return clip_model, precision


def autocast_type(device: torch.device) -> torch.dtype:
    """What PREC amp computes in: float16 on CUDA, where losses are scaled, else bfloat16."""
    return torch.float16 if device.type == "cuda" else torch.bfloat16


def in_half(clip_model: Any, dtype: torch.dtype) -> None:
    """Convert to ``dtype``, in place, what OpenAI's models hold in float16.

    OpenAI's function decides which weights these are (norms and embeddings are not among them);
    bfloat16 is rounded from float32, not from what float16 can hold.
    """
    full = {name: parameter.data for name, parameter in clip_model.named_parameters()}
    convert_weights(clip_model)
    for name, parameter in clip_model.named_parameters():
        if parameter.dtype == torch.float16:
            parameter.data = full[name].to(dtype)


def log_tf32(device: torch.device) -> None:
    """Say how CUDA multiplies float32: with TF32's 10 bits of mantissa, or with all 23.

    torch's settings are left as they are, as in the original.
    """
    if device.type == "cuda":
        matmul = torch.get_float32_matmul_precision() != "highest"
        told = [
            f"{what} {'on' if on else 'off'}"
            for what, on in (("matmul", matmul), ("convolutions", torch.backends.cudnn.allow_tf32))
        ]
        print(f"TF32 in float32: {', '.join(told)} (torch's settings)")


def warn_of_normalization(cfg: Any, preprocess: Any) -> None:
    """Say it where images are not normalized as the backbone was trained."""
    own = preprocess.transforms[-1]
    for key, value, trained in (
        ("PIXEL_MEAN", cfg.INPUT.PIXEL_MEAN, own.mean),
        ("PIXEL_STD", cfg.INPUT.PIXEL_STD, own.std),
    ):
        if not torch.allclose(torch.tensor(value), torch.tensor(trained), atol=1e-3):
            print(
                f"warning: INPUT.{key} is {list(value)}, the backbone was trained with "
                f"{list(trained)}"
            )


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
