"""Load trained modules from an output folder, ours or in a public layout.

Every key of a checkpoint is accounted for: it is loaded, it is derivable (class-name buffers, and
CLIP's weights, which are compared with the CLIP in use), or loading stops and names the key.
docs/checkpoints.md describes the layouts.
"""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dassl.utils import load_checkpoint

from ..settings import SettingsError
from .fingerprints import check_clip_fingerprint
from .layouts import Content, check_clip_names, clip_name, read_content

__all__ = ["check_clip", "load_module", "load_trained", "read_tensors"]

TRAINING_STATE = {"aggregate"}  # public files do not contain it


def load_trained(
    modules: Mapping[str, nn.Module], directory: str, epoch: int | None, clip_model: Any
) -> None:
    """Load ``modules`` (checkpoint name -> module) from ``directory``/<name>/model...

    ``epoch`` None loads the best-validation checkpoint. A file or key that is missing, unknown, of
    another shape, or of another CLIP than the frozen ``clip_model`` raises a `SettingsError`.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for name in _check_folder(modules, directory):
        path = _checkpoint_path(directory, name, epoch)
        for key, value in _read(name, path, clip_model, "MODEL.BACKBONE.NAME").items():
            owner, _, parameter = key.partition(".")
            found.setdefault(owner, {})[parameter] = value
    for name, module in modules.items():
        load_module(name, module, found.pop(name, {}), directory)
    if found:
        keys = ", ".join(f"{owner}.{key}" for owner, state in found.items() for key in state)
        raise SettingsError(
            f"{directory} contains {keys}, which this trainer does not have: evaluate it with the "
            "trainer that saved it (--trainer TextRefinerCoOp for a refined CoOp)"
        )


def read_tensors(name: str, path: str, clip_model: Any, setting: str) -> dict[str, Tensor]:
    """Return the learned tensors of the model ``name`` from a checkpoint file, by our names.

    A file of another CLIP than ``clip_model``, which the config key ``setting`` names, or with keys
    of another model raises a `SettingsError`.
    """
    check_clip_fingerprint(os.path.dirname(os.path.dirname(path)), clip_model, setting, "another")
    found = _read(name, path, clip_model, setting)
    unknown = [key for key in found if not key.startswith(f"{name}.")]
    if unknown:
        raise SettingsError(f"{path} contains {', '.join(unknown)}, which {name} does not have")
    return {key[len(name) + 1 :]: value for key, value in found.items()}


def _read(name: str, path: str, clip_model: Any, setting: str) -> dict[str, Tensor]:
    checkpoint = load_checkpoint(path)
    if "state_dict" not in checkpoint or "epoch" not in checkpoint:
        raise SettingsError(
            f"{path} is not a checkpoint of a run, which has a state_dict and an epoch: give the "
            "output folder of a run with its own checkpoints"
        )
    content = read_content(name, checkpoint)
    check_clip(clip_model, content, path, setting)
    print(f'Loaded {name} from "{path}" (epoch {checkpoint["epoch"]})')
    return content.learned


def _check_folder(modules: Mapping[str, nn.Module], directory: str) -> list[str]:
    """Return the names to load; refuse a folder with other models than the trainer's."""
    if not os.path.isdir(directory):
        raise SettingsError(f"--model-dir {directory} is not a folder")
    present = sorted(
        entry.name
        for entry in os.scandir(directory)
        if entry.is_dir() and any(f.startswith("model") for f in os.listdir(entry))
    )
    if sorted(modules) != present:
        raise SettingsError(
            f"{directory} contains checkpoints of {', '.join(present) or 'nothing'}, but this "
            f"trainer needs {', '.join(sorted(modules))}: give the output folder of a run of this "
            "trainer"
        )
    return present


def _checkpoint_path(directory: str, name: str, epoch: int | None) -> str:
    file = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
    path = os.path.join(directory, name, file)
    if not os.path.exists(path):
        there = sorted(f for f in os.listdir(os.path.dirname(path)) if f.startswith("model"))
        raise SettingsError(
            f"{path} does not exist; the folder contains {', '.join(there)}: choose an epoch with "
            "--load-epoch"
        )
    return path


def check_clip(clip_model: Any | None, content: Content, path: str, setting: str) -> None:
    """Raise SettingsError if CLIP weights in a public file differ from the CLIP in use.

    ``clip_model`` None checks only their names. ``setting`` is the config key of the CLIP.
    """
    check_clip_names(path, content.clip)
    own = {} if clip_model is None else clip_model.state_dict()
    for key, value in content.clip.items() if own else ():
        weight = own.get(clip_name(key))
        if weight is None:
            problem = f"the backbone has no {clip_name(key)}, the file contains it as {key}"
        # The file may have been saved in fp16.
        elif weight.shape == value.shape and torch.allclose(
            weight.float(), value.float(), rtol=1e-2, atol=1e-3
        ):
            continue
        else:
            problem = f"{key} differs"
        raise SettingsError(
            f"{path} was trained with another CLIP ({problem}): set {setting} to the backbone of "
            "that run"
        )


def load_module(name: str, module: nn.Module, state: dict[str, Tensor], directory: str) -> None:
    """Load a state dict strictly, or raise a SettingsError that names the first difference."""
    own = module.state_dict()
    missing = sorted(own.keys() - state.keys() - TRAINING_STATE)
    extra = sorted(state.keys() - own.keys() - TRAINING_STATE)
    if missing or extra:
        problem = f"lacks {', '.join(missing)}" if missing else f"adds {', '.join(extra)}"
        raise SettingsError(
            f"the checkpoint of {name} in {directory} {problem}; expected exactly {', '.join(own)}"
        )
    state = {key: state.get(key, value) for key, value in own.items()}
    for key, value in own.items():
        if state[key].shape != value.shape:
            raise SettingsError(
                f"{name}.{key} in {directory} has shape {tuple(state[key].shape)}, but this model "
                f"has {tuple(value.shape)}: the backbone, N_CTX, CSC or CACHE_SIZE differs"
            )
    module.load_state_dict(state)
