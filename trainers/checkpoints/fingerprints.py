"""Identify the CLIP model that a checkpoint was trained with.

Shapes and a few numbers of two weights distinguish any two CLIPs, in every precision and whatever
their names or paths are.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..settings import SettingsError
from .record import read_record

__all__ = ["check_clip_fingerprint", "clip_fingerprint"]

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
    record = read_record(folder)
    if record is None:
        return
    own = clip_fingerprint(clip_model.state_dict())
    for name, recorded in record.clip.items():
        current = own.get(name, {"shape": "none", "sample": ""})
        same_shape = recorded["shape"] == current["shape"]
        if same_shape and _close(recorded["sample"], current["sample"]):
            continue
        trained = record.backbone or "another CLIP"
        if trained == value:
            value = f"{value} with other weights"
        raise SettingsError(
            f"the model in {folder} was trained with the backbone {trained}, but {setting} is "
            f"{value}: set {setting} to the backbone of the training"
        )


def _close(recorded: str, current: str) -> bool:
    """Return whether two samples agree up to a rounding to half precision."""
    a, b = ([float(number) for number in text.split()] for text in (recorded, current))
    return len(a) == len(b) and all(
        abs(x - y) <= 1e-3 + 1e-2 * abs(y) for x, y in zip(a, b, strict=True)
    )
