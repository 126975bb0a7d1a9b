"""Find the weights that a model name refers to, and load them.

torch is imported only when weights are read, so that :func:`available_models` is fast.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import openai
from .errors import WeightsError, nearest

if TYPE_CHECKING:
    import torch

_ASSETS = Path(__file__).resolve().parents[1] / "assets" / "critters"
_SUFFIXES = (".pt", ".pth", ".bin", ".tar", ".safetensors")
_FILES = ("model.safetensors", "pytorch_model.bin")  # of a folder in Hugging Face's layout


@dataclass(frozen=True)
class Weights:
    """Tensors in OpenAI's layout, their source, and what their shapes do not determine.

    ``mean`` and ``std`` (per channel) normalize the images.
    """

    state_dict: "dict[str, torch.Tensor]"
    source: str
    quick_gelu: bool = True
    mean: tuple[float, ...] = openai.MEAN
    std: tuple[float, ...] = openai.STD
    heads: tuple[int, int] | None = None  # of the image and of the text encoder
    assumed: bool = False  # whether QuickGELU is a guess: the file does not state its activation


def available_models() -> list[str]:
    """Return the names of OpenAI's models and of those bundled in assets/."""
    return [*openai.MODELS, *sorted(path.stem for path in _ASSETS.glob("*.safetensors"))]


def load_weights(name: str | Path, download_root: str | Path | None = None) -> Weights:
    """Load the weights called ``name``, and print their source.

    ``name`` is looked up in this order:

    1. the path of a file (see :mod:`clip.files`), or of a folder in Hugging Face's layout. Its
       config.json states the activation; without one it is QuickGELU;
    2. a model in assets/;
    3. one of OpenAI's names: the file clip/ViT-B-16.pt below the working folder, then the file in
       ``download_root`` (default: ~/.cache/clip), which is downloaded if missing;
    4. "ARCHITECTURE:TAG" of open_clip's registry; TAG may also be a path.

    Raises:
        WeightsError: there is no such model, or its file cannot be read.
    """
    weights = _find(str(name), download_root)
    activation = "QuickGELU" if weights.quick_gelu else "GELU"
    guess = ", assumed, as there is no config.json beside it" if weights.assumed else ""
    print(f"CLIP weights: {weights.source} ({activation}{guess})")
    if (weights.mean, weights.std) != (openai.MEAN, openai.STD):
        print(f"CLIP weights: images are normalized with mean {weights.mean} and std {weights.std}")
    return weights


def _find(name: str, download_root: str | Path | None) -> Weights:
    from .files import read_state_dict

    path = Path(name).expanduser()
    asset = _ASSETS / f"{name}.safetensors"
    if path.is_file():
        return _read_path(path)
    if path.is_dir() and (inside := _file_in(path)):
        return _read_path(inside)
    if asset.is_file():
        return Weights(read_state_dict(asset), source=f"{name} from {asset}")
    if name in openai.MODELS:
        url = openai.MODELS[name]
        if (Path("clip") / url.rpartition("/")[2]).is_file():  # where PromptKD keeps it
            download_root = "clip"
        file = openai.download(url, download_root)
        return Weights(read_state_dict(file), source=f"OpenAI's {name} from {file}")
    if ":" in name:
        from . import openclip
        from .layouts import to_openai

        entry = openclip.find(name)
        state_dict, _ = to_openai(read_state_dict(entry.path), Path(entry.path))
        source = f"open_clip's {name} from {entry.path}"
        try:
            openclip.check_sizes(state_dict, entry)
        except WeightsError as error:
            raise WeightsError(f"{source}: {error}") from error
        return Weights(state_dict, source, entry.quick_gelu, entry.mean, entry.std, entry.heads)
    if path.is_dir():
        raise WeightsError(
            f"the folder {path} has none of {', '.join(_FILES)}: give the path of a weights file"
        )
    if path.suffix in _SUFFIXES:
        raise WeightsError(f"there is no file {path} (working folder: {Path.cwd()})")
    raise WeightsError(
        f"there is no model {name!r}; {nearest(name, available_models())}, a path to weights,"
        ' or ARCHITECTURE:TAG of open_clip, such as "ViT-B-16:laion2b_s34b_b88k"'
    )


def _file_in(folder: Path) -> Path | None:
    """Return the weights file in a folder of Hugging Face's layout; None if there is none."""
    return next((folder / name for name in _FILES if (folder / name).is_file()), None)


def _read_path(path: Path) -> Weights:
    from .files import read_state_dict
    from .layouts import to_openai

    tensors, settings = to_openai(read_state_dict(path), path)
    return Weights(
        tensors,
        source=str(path),
        quick_gelu=settings.quick_gelu is not False,
        heads=settings.heads,
        assumed=settings.assumed,
    )
