"""Which CLIP a checkpoint belongs to, although it holds nothing of it.

Sizes and a few numbers of two weights tell any two CLIPs apart, in any precision, and whatever
they are called: a name, a path, another machine's path.
"""

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dassl.utils import read_json

from ..settings import SettingsError

__all__ = ["RECORD", "check_identity", "clip_identity"]

RECORD = "checkpoint.json"  # beside the folders of the checkpoints; docs/checkpoints.md
WEIGHTS = ("text_projection", "positional_embedding")
NUMBERS = 6


def clip_identity(state: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """What tells a CLIP from others, by weight: {"shape": "512 x 512", "sample": "0.012 ..."}.

    Args:
        state: the state dict of a CLIP by OpenAI's names; weights that it lacks are left out.
    """
    found = {}
    for name in WEIGHTS:
        if name in state:
            weight = state[name].detach().flatten()
            step = max(1, len(weight) // NUMBERS)
            numbers = weight[::step][:NUMBERS].float().tolist()
            shape = " x ".join(map(str, state[name].shape))
            found[name] = {"shape": shape, "sample": " ".join(f"{n:.5f}" for n in numbers)}
    return found


def check_identity(folder: str, clip_model: Any, setting: str, asked: str) -> None:
    """Compare the CLIP in use with the one that ``folder``/checkpoint.json tells, if it is there.

    Args:
        folder: an output folder.
        clip_model: the CLIP in use.
        setting: the config key that names it.
        asked: its value.

    Raises:
        SettingsError: the checkpoints in ``folder`` belong to another CLIP.
    """
    path = os.path.join(folder, RECORD)
    if not os.path.isfile(path):
        return
    record = read_json(path)
    own = clip_identity(clip_model.state_dict())
    for name, then in record.get("clip", {}).items():
        now = own.get(name, {"shape": "none", "sample": ""})
        if then["shape"] == now["shape"] and _close(then["sample"], now["sample"]):
            continue
        trained = record.get("backbone") or "another CLIP"
        if trained == asked:
            asked = f"{asked} with other weights"
        raise SettingsError(
            f"the model in {folder} was trained with the backbone {trained}, {setting} asks for "
            f"{asked}: set {setting} to the backbone of the training"
        )


def _close(then: str, now: str) -> bool:
    """Whether two samples agree, one of which may have passed through half precision."""
    pairs = zip(map(float, then.split()), map(float, now.split()), strict=True)
    return all(abs(a - b) <= 1e-3 + 1e-2 * abs(b) for a, b in pairs)
