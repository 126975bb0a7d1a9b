"""Files with the weights of any model name, for programs that read them by torch.load."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from .weights import load_weights

_folder: TemporaryDirectory[str] | None = None  # removed when the process ends
_numbers: dict[str, int] = {}  # name -> number in the name of its file


def save_weights(name: str) -> str:
    """Save the weights called ``name`` as a state dict in OpenAI's layout; return the path.

    The file is temporary: it is removed when the process ends. What the shapes do not determine is
    saved with the tensors, under `clip.model.OPTION_ENTRIES`, so that build_model knows it.

    Raises:
        WeightsError: there is no such model, or its file cannot be read.
    """
    global _folder
    weights = load_weights(name)
    options = {"quick_gelu": torch.tensor(weights.quick_gelu)}
    if weights.heads is not None:
        options["heads"] = torch.tensor(weights.heads)
    if _folder is None:
        _folder = TemporaryDirectory(prefix="clip-weights-")
    number = _numbers.setdefault(name, len(_numbers))
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", name)[-60:]
    path = Path(_folder.name) / f"{number}-{readable}.pt"
    torch.save({**weights.state_dict, **options}, path)
    return str(path)
