"""The name of a model, or a path -> its weights. Nothing is guessed: the source is printed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from . import openai, openclip
from .errors import WeightsError, nearest
from .files import read_state_dict

__all__ = ["Weights", "WeightsError", "available_models", "load_weights"]

_ASSETS = Path(__file__).resolve().parents[1] / "assets" / "critters"
_SUFFIXES = (".pt", ".pth", ".bin", ".tar", ".safetensors")


@dataclass(frozen=True)
class Weights:
    """Tensors in OpenAI's layout, where they came from, and what else a model needs to know.

    ``mean`` and ``std`` normalize the images, per channel.
    """

    state_dict: dict[str, torch.Tensor]
    source: str
    quick_gelu: bool = True
    mean: tuple[float, ...] = openai.MEAN
    std: tuple[float, ...] = openai.STD


def available_models() -> list[str]:
    """OpenAI's names, and those of the models in this project's assets/."""
    return [*openai.MODELS, *sorted(path.stem for path in _ASSETS.glob("*.safetensors"))]


def load_weights(name: str | Path, download_root: str | Path | None = None) -> Weights:
    """Read the weights called ``name``, and print where they came from.

    ``name`` is, in this order: the path of a file (see :mod:`clip.files`; QuickGELU is assumed); a
    model of assets/; one of OpenAI's names, looked for below the working folder (clip/ViT-B-16.pt),
    then in ``download_root`` (default: ~/.cache/clip), else downloaded there; "ARCHITECTURE:TAG" of
    open_clip's registry, in which TAG may also be a path.

    Raises:
        WeightsError: there is no such model, or its file cannot be read.
    """
    weights = _find(str(name), download_root)
    print(f"CLIP weights: {weights.source} ({'QuickGELU' if weights.quick_gelu else 'GELU'})")
    if (weights.mean, weights.std) != (openai.MEAN, openai.STD):
        print(f"CLIP weights: made for images of mean {weights.mean} and std {weights.std}")
    return weights


def _find(name: str, download_root: str | Path | None) -> Weights:
    path = Path(name).expanduser()
    if path.is_file():
        return Weights(read_state_dict(path), source=f"{path}, as named")
    asset = _ASSETS / f"{name}.safetensors"
    if asset.is_file():
        return Weights(read_state_dict(asset), source=f"{name} from {asset}")
    if name in openai.MODELS:
        file = _openai_file(openai.MODELS[name], download_root)
        return Weights(read_state_dict(file), source=f"OpenAI's {name} from {file}")
    if ":" in name:
        entry = openclip.find(name)
        state_dict = read_state_dict(entry.path)
        source = f"open_clip's {name} from {entry.path}"
        try:
            openclip.check_sizes(state_dict, entry.config)
        except WeightsError as error:
            raise WeightsError(f"{source}: {error}") from error
        return Weights(
            state_dict,
            source=source,
            quick_gelu=entry.quick_gelu,
            mean=entry.mean,
            std=entry.std,
        )
    if path.suffix in _SUFFIXES:
        raise WeightsError(f"there is no file {path} (looked for it from {Path.cwd()})")
    raise WeightsError(
        f"there is no model {name!r}; {nearest(name, available_models())}, a path to weights,"
        ' or ARCHITECTURE:TAG of open_clip, such as "ViT-B-16:laion2b_s34b_b88k"'
    )


def _openai_file(url: str, download_root: str | Path | None) -> str:
    """The path of OpenAI's file, checked; PromptKD keeps its files in clip/, by the code."""
    sha256, filename = url.split("/")[-2:]
    local = Path("clip") / filename
    if local.is_file():
        openai.verify(local, sha256)
        return str(local)
    return openai.download(url, download_root)
