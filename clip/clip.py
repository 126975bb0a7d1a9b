"""OpenAI's interface: ``load`` a model by name and ``tokenize`` texts."""

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch
from PIL import Image
from torchvision import transforms

from . import openai
from .errors import ChangedClipError, WeightsError
from .model import CLIP, build_model
from .openai import MODELS as _MODELS
from .simple_tokenizer import END, START, SimpleTokenizer
from .weights import Weights, available_models, load_weights

__all__ = ["_MODELS", "_download", "available_models", "build_model", "load", "tokenize"]

_tokenizer = SimpleTokenizer()


def load(
    name: str,
    device: str | torch.device | None = None,
    jit: bool = False,
    download_root: str | Path | None = None,
) -> tuple[CLIP, Callable[[Image.Image], torch.Tensor]]:
    """Load a model and the transform of its input images.

    Args:
        name: one of :func:`available_models`, a path, or open_clip's "ARCHITECTURE:TAG". A path
            means QuickGELU unless a config.json of Hugging Face is beside the file.
        device: device of the model; by default CUDA if available, otherwise the CPU. On the CPU
            the model is in float32, exactly as saved; elsewhere in fp16, like OpenAI's.
        jit: must be False.
        download_root: folder for downloads, ~/.cache/clip by default.

    Returns:
        The model in eval mode, and the transform from an RGB image of any size to a tensor
        (3, input_resolution, input_resolution).

    Raises:
        WeightsError: there is no such model, or its file cannot be read.
    """
    if jit:
        raise WeightsError("jit=True is not supported: archives are never executed; use jit=False")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    weights = load_weights(name, download_root)
    fp16 = torch.device(device).type != "cpu"
    try:
        model = build_model(
            weights.state_dict, quick_gelu=weights.quick_gelu, fp16=fp16, heads=weights.heads
        )
    except WeightsError as error:
        raise WeightsError(f"{weights.source}: {error}") from error
    return model.to(device), _transform(model.visual.input_resolution, weights)


def _download(url: str, root: str | Path | None = None) -> str:
    """Return the path of the weights at an address in ``_MODELS``, for torch.load.

    Those of OpenAI's names are downloaded to ``root`` (default: ~/.cache/clip) unless they are
    there. Those of other names that `load` takes are copied to a temporary file.

    Raises:
        WeightsError: there is no such model, its file cannot be read, or a download failed.
    """
    if not url.startswith(openai.ANY):
        return openai.download(url, root)
    from .plain_file import save_weights

    return save_weights(url.removeprefix(openai.ANY))


def __getattr__(name: str) -> NoReturn:
    """Raise an AttributeError, with what to do for the functions of a changed clip/."""
    if name.startswith("build_model"):
        raise ChangedClipError(f"this clip has no {name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def tokenize(
    texts: str | list[str], context_length: int = 77, truncate: bool = False
) -> torch.Tensor:
    """Convert texts to token ids (N, context_length) of type int, padded with zeros.

    Raises:
        RuntimeError: a text is too long and ``truncate`` is False.
    """
    if isinstance(texts, str):
        texts = [texts]
    start, end = _tokenizer.encoder[START], _tokenizer.encoder[END]
    result = torch.zeros(len(texts), context_length, dtype=torch.int)
    for row, text in zip(result, texts, strict=True):
        ids = [start, *_tokenizer.encode(text), end]
        if len(ids) > context_length:
            if not truncate:
                raise RuntimeError(
                    f"Input {text} is too long for context length {context_length}: it has"
                    f" {len(ids)} tokens with start and end"
                )
            ids = [*ids[: context_length - 1], end]
        row[: len(ids)] = torch.tensor(ids, dtype=torch.int)
    return result


def _transform(size: int, weights: Weights) -> transforms.Compose:
    return transforms.Compose(
        [
            transforms.Resize(size, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            _to_rgb,
            transforms.ToTensor(),
            transforms.Normalize(weights.mean, weights.std),
        ]
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")
