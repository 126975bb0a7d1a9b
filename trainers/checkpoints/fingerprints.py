"""Identify the CLIP model that a checkpoint was trained with.

Shapes and a few numbers of two weights distinguish any two CLIPs, in every precision and whatever
their names or paths are.
"""

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dassl.utils import read_json

from ..settings import SettingsError

__all__ = ["RECORD", "check_clip_fingerprint", "clip_fingerprint"]

RECORD = "checkpoint.json"  # beside the folders of the checkpoints; docs/checkpoints.md
WEIGHTS = ("text_projection", "positional_embedding")
NUMBERS = 6


def clip_fingerprint(state: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Return the fingerprint of a CLIP, {weight: {"shape": "512 x 512", "sample": "0.012 ..."}}.

    Weights missing in ``state``, a state dict by OpenAI's names, are left out.
    """
    found = {}
    for name in WEIGHTS:
        if name in state:
            weight = state[name].detach().flatten()
            step = max(1, len(weight) // NUMBERS)
            numbers = weight[::step][:NUMBERS].float().tolist()
            found[name] = {
                "shape": " x ".join(map(str, state[name].shape)),
                "sample": " ".join(f"{n:.5f}" for n in numbers),
            }
    return found


def check_clip_fingerprint(folder: str, clip_model: Any, setting: str, value: str) -> None:
    """Raise SettingsError if ``folder``/checkpoint.json exists and records another CLIP.

    ``setting`` is the config key that names the CLIP in use, and ``value`` its value.
    """
    path = os.path.join(folder, RECORD)
    if not os.path.isfile(path):
        return
    record = read_json(path)
    own = clip_fingerprint(clip_model.state_dict())
    for name, recorded in record.get("clip", {}).items():
        current = own.get(name, {"shape": "none", "sample": ""})
        same_shape = recorded["shape"] == current["shape"]
        if same_shape and _close(recorded["sample"], current["sample"]):
            continue
        trained = record.get("backbone") or "another CLIP"
        if trained == value:
            value = f"{value} with other weights"
        raise SettingsError(
            f"the model in {folder} was trained with the backbone {trained}, but {setting} is "
            f"{value}: set {setting} to the backbone of the training"
        )


def _close(recorded: str, current: str) -> bool:
    """Return whether two samples agree up to a rounding to half precision."""
    pairs = zip(map(float, recorded.split()), map(float, current.split()), strict=True)
    return all(abs(a - b) <= 1e-3 + 1e-2 * abs(b) for a, b in pairs)
