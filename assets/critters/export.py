"""Writes a trained model as an asset: half precision, and no rows for unused words."""

from __future__ import annotations

import datetime
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from assets.critters.vocabulary import Vocabulary
from clip.model import CLIP
from dassl.utils import atomic_path

_VOCABULARY = 49408  # of the full token table, which `clip` restores on loading


def round_to_half(model: CLIP) -> None:
    """Round the parameters to fp16 in place, so that what is measured is what is shipped."""
    model.load_state_dict({name: value.half() for name, value in model.state_dict().items()})


def export(
    model: CLIP, vocabulary: Vocabulary, recipe: dict[str, Any], folder: Path, name: str
) -> None:
    """Write NAME.safetensors and, beside it, NAME.json: the recipe, date and versions."""
    state = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    state["token_embedding.rows"] = vocabulary.ids.to(torch.int32)
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    versions = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
    with atomic_path(folder / f"{name}.safetensors") as path:
        save_file(state, path, metadata={"vocab_size": str(_VOCABULARY)})
    with atomic_path(folder / f"{name}.json") as path:
        text = json.dumps({"name": name, **recipe, "date": today, "versions": versions}, indent=2)
        path.write_text(text + "\n")
