"""Load trained modules from an output folder, ours or in a public layout.

Every key of a checkpoint is accounted for: it is loaded, it is derivable (class-name buffers, and
CLIP's weights, which are compared with the CLIP in use), or loading stops and names the key.
docs/checkpoints.md describes the layouts.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dassl.utils import load_checkpoint

from ..settings import SettingsError
from .fingerprints import check_clip_fingerprint
from .layouts import Content, check_clip_names, clip_name, listed, read_content
from .record import RECORD, read_record

__all__ = [
    "check_clip",
    "check_epochs",
    "load_module",
    "load_trained",
    "read_checkpoint",
    "read_tensors",
    "wrong_values",
]

MAX_LENGTH = 200  # characters of a tensor's name
TRAINING_STATE = {"aggregate"}  # public files do not contain it


def load_trained(
    modules: Mapping[str, nn.Module],
    directory: str,
    epoch: int | None,
    clip_model: Any,
    classnames: Sequence[str] = (),
) -> None:
    """Load ``modules`` (checkpoint name -> module) from ``directory``/<name>/model...

    ``epoch`` None loads the best-validation checkpoint. ``classnames`` are the classes of the test,
    in the order of their labels; a module with a tensor of one row for each class (its attribute
    ``class_tensors`` names it) loads for the classes of the training only. A file or key that is
    missing, unknown, of another shape, or of another CLIP than the frozen ``clip_model``, values
    that are not finite, and files of different epochs raise a `SettingsError`.
    """
    found: dict[str, dict[str, Tensor]] = {}
    paths = {
        name: _checkpoint_path(directory, name, epoch) for name in _check_folder(modules, directory)
    }
    checkpoints = {name: read_checkpoint(path) for name, path in paths.items()}
    check_epochs(directory, checkpoints)
    for name, checkpoint in checkpoints.items():
        learned = _learned(name, paths[name], checkpoint, clip_model, "MODEL.BACKBONE.NAME")
        for key, value in learned.items():
            owner, _, parameter = key.partition(".")
            found.setdefault(owner, {})[parameter] = value
    for name, module in modules.items():
        for key in getattr(module, "class_tensors", ()):
            _check_classes(directory, f"{name}.{key}", classnames)
        load_module(name, module, found.pop(name, {}), directory)
    if found:
        keys = [f"{owner}.{key}" for owner, state in found.items() for key in state]
        raise SettingsError(
            f"{directory} contains {listed(keys)}, which this trainer does not have: evaluate it "
            "with the trainer that saved it (--trainer TextRefinerCoOp for a refined CoOp)"
        )


def check_epochs(directory: str, checkpoints: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise SettingsError if the parts of a model (name -> checkpoint) are of different epochs."""
    epochs = {name: checkpoint["epoch"] for name, checkpoint in checkpoints.items()}
    if len(set(epochs.values())) > 1:
        (one, first), (two, second) = next(
            (a, b) for a in epochs.items() for b in epochs.items() if a[1] != b[1]
        )
        raise SettingsError(
            f"the checkpoints in {directory} are a mixture of two epochs, {first} ({one}) and "
            f"{second} ({two}): run the training's command again, or choose another epoch"
        )


def _check_classes(directory: str, key: str, classnames: Sequence[str]) -> None:
    """Raise SettingsError if a tensor with a row for each class was trained on other classes."""
    record = read_record(directory)
    if record is None or record.classes is None:
        print(
            f"warning: {key} belongs to the classes of its training, but {directory} has no "
            f"{RECORD} that names them: it is correct for the same classes in the same order only"
        )
        return
    trained = [name.replace("_", " ") for name in record.classes]
    tested = [name.replace("_", " ") for name in classnames]
    if trained == tested:
        return
    differ = (i for i, (a, b) in enumerate(zip(trained, tested, strict=False)) if a != b)
    index = next(differ, min(len(trained), len(tested)))
    a, b = (repr(names[index]) if index < len(names) else "none" for names in (trained, tested))
    what, other = "values", "train a method without values for each class (docs/method.md)"
    if key.endswith(".ctx"):
        what, other = "a context", "train with CSC False"
    raise SettingsError(
        f"{key} in {directory} has {what} for each class of its training, but class {index} is "
        f"{a} there and {b} in this test ({len(trained)} and {len(tested)} classes): test it with "
        f"the classes of the training (DATASET.SUBSAMPLE_CLASSES), or {other}"
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
        raise SettingsError(f"{path} contains {listed(unknown)}, which {name} does not have")
    return {key[len(name) + 1 :]: value for key, value in found.items()}


def read_checkpoint(path: str) -> dict[str, Any]:
    """Return a checkpoint file of a run after checking the form of its content.

    It has a "state_dict" of tensors by name, an "epoch", and perhaps the release's "memory_item".
    """
    checkpoint = load_checkpoint(path)
    missing = [key for key in ("state_dict", "epoch") if key not in checkpoint]
    if missing:
        problem = f"it has no {' and no '.join(missing)}"
    elif not _is_state_dict(checkpoint["state_dict"]):
        problem = "its state_dict is not a table of tensors"
    elif type(checkpoint["epoch"]) is not int or not 0 <= checkpoint["epoch"] < 2**31:
        problem = "its epoch is not a whole number"
    elif not isinstance(checkpoint.get("val_result"), (float, int, type(None))):
        problem = "its val_result is not a number"
    elif not isinstance(checkpoint.get("memory_item", torch.empty(0)), Tensor):
        problem = "its memory_item is not a tensor"
    else:
        return checkpoint
    raise SettingsError(
        f"{path} is not a checkpoint of a run ({problem}): give the output folder of a run with "
        "its own checkpoints"
    )


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and len(name) <= MAX_LENGTH and isinstance(tensor, Tensor)
        for name, tensor in value.items()
    )


def _read(name: str, path: str, clip_model: Any, setting: str) -> dict[str, Tensor]:
    return _learned(name, path, read_checkpoint(path), clip_model, setting)


def _learned(
    name: str, path: str, checkpoint: Mapping[str, Any], clip_model: Any, setting: str
) -> dict[str, Tensor]:
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
        elif (
            weight.shape == value.shape
            and value.is_floating_point()
            and torch.allclose(weight.float(), value.float(), rtol=1e-2, atol=1e-3)
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
        problem = f"lacks {listed(missing)}" if missing else f"adds {listed(extra)}"
        raise SettingsError(
            f"the checkpoint of {name} in {directory} {problem}; expected exactly {listed(own)}"
        )
    state = {key: state.get(key, value) for key, value in own.items()}
    for key, value in own.items():
        if state[key].shape != value.shape:
            raise SettingsError(
                f"{name}.{key} in {directory} has shape {tuple(state[key].shape)}, but this model "
                f"has {tuple(value.shape)}: the backbone, N_CTX, CSC or CACHE_SIZE differs"
            )
        if problem := wrong_values(key, state[key]):
            raise SettingsError(
                f"{name}.{key} in {directory} {problem}: choose another epoch, or train again"
            )
    module.load_state_dict(state)


def wrong_values(key: str, value: Tensor) -> str:
    """Return what is wrong with the values of a learned tensor ``key``; "" if nothing."""
    counts = key.endswith("num_batches_tracked")
    if value.is_complex() or value.is_floating_point() == counts:
        return f"has the type {value.dtype}"
    if not torch.isfinite(value).all():
        return "has values that are not finite"
    if key.endswith("running_var") and (value < 0).any():
        return "has negative variances"
    return ""
