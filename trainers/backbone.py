"""Load the frozen CLIP in the precision of a run (docs/precision.md), and compile encoders."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from clip import clip
from clip.model import convert_weights

from .encode import ImageTokens, check_size
from .settings import SettingsError
from .warning_list import print_warning

__all__ = ["check_compiler", "compile_encoders", "in_half", "load_clip", "log_tf32"]

# PREC -> type of the encoders' weights, if not float32
HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
# PREC -> description for the log
MEANINGS = {
    "fp32": "everything in float32",
    "amp": "weights in float32, autocast to {half} in training, tests in float32",
    "bf16": "encoder weights in bfloat16, trained parameters in float32",
    "fp16": "encoder weights in float16, trained parameters in float32",
}


def load_clip(
    cfg: Any,
    precision: str,
    device: torch.device,
    name: str = "",
    warn: Callable[[str], None] = print_warning,
) -> tuple[Any, str]:
    """Load CLIP ``name`` or cfg.MODEL.BACKBONE.NAME; return it in eval mode, and its precision.

    On a CPU, which is slow in fp16, fp16 falls back to fp32 with a warning.
    """
    clip_model, preprocess = clip.load(name or cfg.MODEL.BACKBONE.NAME, device="cpu")
    check_size(clip_model.visual, *cfg.INPUT.SIZE)
    check_normalization(cfg, preprocess, warn)
    clip_model = clip_model.float().eval()
    if precision == "fp16" and device.type != "cuda":
        warn(
            f"PREC fp16 is not supported on {device.type}: running in fp32 (use bf16 or amp for "
            "half precision)"
        )
        precision = "fp32"
    if precision in HALVES:
        in_half(clip_model, HALVES[precision])
    half = str(autocast_type(device)).removeprefix("torch.")
    print(f"Precision: {precision} on {device} ({MEANINGS[precision].format(half=half)})")
    return clip_model, precision


def autocast_type(device: torch.device) -> torch.dtype:
    """Return the type of PREC amp: float16 on CUDA, where losses are scaled, else bfloat16."""
    return torch.float16 if device.type == "cuda" else torch.bfloat16


def in_half(clip_model: Any, dtype: torch.dtype) -> None:
    """Convert the weights that OpenAI's models store in float16 to ``dtype``, in place.

    OpenAI's function selects them; norms and embeddings are not among them. bfloat16 is rounded
    from float32, not from float16.
    """
    full = {name: parameter.data for name, parameter in clip_model.named_parameters()}
    convert_weights(clip_model)
    for name, parameter in clip_model.named_parameters():
        if parameter.dtype == torch.float16:
            parameter.data = full[name].to(dtype)


def log_tf32(device: torch.device) -> None:
    """Log whether CUDA multiplies float32 in TF32 (10 bits of mantissa); torch decides."""
    if device.type == "cuda":
        matmul = "on" if torch.get_float32_matmul_precision() != "highest" else "off"
        convolutions = "on" if torch.backends.cudnn.allow_tf32 else "off"
        print(f"TF32 in float32: matmul {matmul}, convolutions {convolutions} (torch's settings)")


def check_normalization(cfg: Any, preprocess: Any, warn: Callable[[str], None]) -> None:
    """Warn if images are normalized differently than in the backbone's training."""
    own = preprocess.transforms[-1]
    for key, trained in (("PIXEL_MEAN", own.mean), ("PIXEL_STD", own.std)):
        value = cfg.INPUT[key]
        if not torch.allclose(torch.tensor(value), torch.tensor(trained), atol=1e-3):
            warn(f"INPUT.{key} is {list(value)}, but the backbone was trained with {list(trained)}")


def check_compiler(device: torch.device) -> None:
    """Raise SettingsError if torch.compile does not work, before training starts."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(4, device=device))
    except Exception as error:  # every backend raises its own
        needs = "Triton and a C compiler" if device.type == "cuda" else "a C++ compiler"
        reason = str(error).strip().splitlines()[0]
        raise SettingsError(
            f"TRAINER.COMPILE True needs {needs}, but torch.compile failed ({reason}): install it, "
            "or leave COMPILE out"
        ) from error


def compile_encoders(learner: Any, batch_sizes: Collection[int], backend: str = "inductor") -> None:
    """Replace a `PromptLearner`'s `encode_image` and `encode_text` by compiled functions.

    Image batches of other sizes than ``batch_sizes`` are not compiled.
    """
    plain_image, plain_text = learner.encode_image, learner.encode_text
    compiled_image = torch.compile(plain_image, dynamic=False, backend=backend)
    compiled_text = torch.compile(plain_text, dynamic=False, backend=backend)

    def encode_image(image: Tensor, local: bool) -> ImageTokens:
        encode = compiled_image if len(image) in batch_sizes else plain_image
        return encode(image, local)

    def encode_text(features: Tensor | None = None) -> Tensor:
        return compiled_text(features) if torch.is_grad_enabled() else plain_text(features)

    learner.encode_image, learner.encode_text = encode_image, encode_text
