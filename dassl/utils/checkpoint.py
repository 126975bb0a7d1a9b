"""Checkpoint files: <folder>/model.pth.tar-<epoch>, and a text file that names the newest."""

from __future__ import annotations

import textwrap
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .errors import UsageError
from .safe_load import safe_torch_load
from .tools import PathLike, atomic_path

POINTER = "checkpoint"  # the text file that names the newest checkpoint of its folder
BEST = "model-best.pth.tar"
# Buffers that CoOp's prompt learners save although they follow from the class names of a run.
CLASS_NAME_BUFFERS = ("token_prefix", "token_suffix", "tokenized_prompts")


def epoch_file(epoch: int) -> str:
    """Name of the checkpoint after `epoch` finished epochs."""
    return f"model.pth.tar-{epoch}"


def without_module_prefix(state_dict: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Drop the "module." that DataParallel puts before every key."""
    return OrderedDict((key.removeprefix("module."), value) for key, value in state_dict.items())


def save_checkpoint(
    state: dict[str, Any],
    save_dir: PathLike,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> None:
    """Save `state` in `save_dir` and name it there as the newest.

    Args:
        state: at least "state_dict" and "epoch" (the number of finished epochs).
        is_best: write the same as model-best.pth.tar, too.
        remove_module_from_keys: drop the "module." that DataParallel puts before every key.
        model_name: file name instead of model.pth.tar-<epoch>.
    """
    if remove_module_from_keys:
        state = {**state, "state_dict": without_module_prefix(state["state_dict"])}
    save_checkpoints({Path(save_dir): state}, is_best, model_name)


def save_checkpoints(
    states: Mapping[Path, dict[str, Any]], is_best: bool = False, model_name: str = ""
) -> None:
    """Save {folder: state} as one set: all files appear together, then they are the newest.

    An interruption leaves the set before or this one, not a mixture.
    """
    newest = {folder: model_name or epoch_file(s["epoch"]) for folder, s in states.items()}
    with ExitStack() as renamed_together:
        for folder, state in states.items():
            for name in {newest[folder], BEST} if is_best else {newest[folder]}:
                torch.save(state, renamed_together.enter_context(atomic_path(folder / name)))
    for folder, name in newest.items():
        with atomic_path(folder / POINTER) as temporary:
            temporary.write_text(f"{name}\n", encoding="utf-8")
        print(f"Checkpoint saved to {folder / name}")


def newest_checkpoint(fdir: PathLike) -> Path | None:
    """Path of the newest checkpoint of a folder; None where none was finished.

    Raises:
        UsageError: the folder names a file that it does not hold.
    """
    folder = Path(fdir)
    pointer = folder / POINTER
    if not pointer.is_file():
        return None
    name = pointer.read_text(encoding="utf-8").strip()
    if not name or Path(name).name != name or not (folder / name).is_file():
        raise UsageError(
            f"{str(pointer)!r} names {name!r} as the newest checkpoint, but the folder holds "
            f"{list_checkpoints(folder)}; write one of these into it, or remove the folder"
        )
    return folder / name


def list_checkpoints(folder: PathLike) -> str:
    """Names of the checkpoint files of a folder, for a message."""
    if not Path(folder).is_dir():
        return "no such folder"
    names = sorted(path.name for path in Path(folder).glob("model*.pth.tar*"))
    return ", ".join(names) or "no checkpoint"


def load_checkpoint(fpath: PathLike) -> dict[str, Any]:
    """Return a checkpoint's dict, its tensors on the CPU, without running any code it names.

    Raises:
        UsageError: the file is missing, broken or names anything but tensors, plain containers,
            optimizers and schedulers.
    """
    if fpath is None:
        raise UsageError("load_checkpoint needs a path, got None")
    checkpoint = safe_torch_load(fpath)
    if not isinstance(checkpoint, dict):
        raise UsageError(
            f"{str(fpath)!r} holds a {type(checkpoint).__name__}, not the dict of a checkpoint"
        )
    return checkpoint


def load_run_checkpoint(path: PathLike) -> dict[str, Any]:
    """`load_checkpoint` of a file that a run saved: it has the weights and the epoch.

    Raises:
        UsageError: as of `load_checkpoint`, or the file holds something else, such as bare weights.
    """
    checkpoint = load_checkpoint(path)
    lacking = [key for key in ("state_dict", "epoch") if key not in checkpoint]
    if lacking:
        told = f"it lacks {' and '.join(lacking)}"
    elif not _is_state_dict(checkpoint["state_dict"]):
        told = "its state_dict is not a dict of tensors"
    elif not isinstance(checkpoint["epoch"], int):
        told = f"its epoch is {checkpoint['epoch']!r}, not a whole number"
    else:
        return checkpoint
    raise UsageError(
        f"{str(path)!r} is not a checkpoint of a run: {told}; name the output folder of a run that "
        "saved its checkpoints itself"
    )


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in value.items()
    )


def load_weights(model: nn.Module, state_dict: Mapping[str, torch.Tensor], what: str) -> None:
    """`load_state` of a model, without the class-name buffers that it does not keep.

    CoOp saves them with the context vectors; a model that makes them of its own class names has no
    place for them. What is dropped is said.
    """
    own = model.state_dict()
    dropped = [
        key for key in state_dict if key not in own and key.rpartition(".")[2] in CLASS_NAME_BUFFERS
    ]
    if dropped:
        print(f"Dropped {', '.join(dropped)} of {what}: the class names of this run give them")
        state_dict = {key: value for key, value in state_dict.items() if key not in dropped}
    load_state(model, state_dict, what)


def load_state(target: Any, state: Any, what: str) -> None:
    """`target.load_state_dict(state)`, with a UsageError that says what did not fit."""
    try:
        target.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError) as error:
        # A file of another model may differ in hundreds of keys: the first ones tell.
        told = textwrap.shorten(str(error), width=300, placeholder=" ...")
        raise UsageError(
            f"{what} does not fit this run: {told}; resume with the settings of the run that "
            "wrote it, or choose another OUTPUT_DIR"
        ) from error


def resume_from_checkpoint(
    fdir: PathLike,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
) -> int:
    """Restore a model, its optimizer and its schedule from the newest checkpoint of a folder.

    Returns:
        The number of finished epochs: the index of the epoch to go on with.
    """
    path = newest_checkpoint(fdir)
    if path is None:
        raise UsageError(f"no checkpoint to resume from in {str(fdir)!r}")
    checkpoint = load_run_checkpoint(path)
    restore(checkpoint, path, model, optimizer, scheduler)
    return int(checkpoint["epoch"])


def restore(
    checkpoint: dict[str, Any],
    path: PathLike,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    scheduler: Any,
) -> None:
    """Load what `load_run_checkpoint` gave into the objects; a part that is missing is said."""
    bare = model.module if isinstance(model, nn.DataParallel) else model
    load_weights(bare, checkpoint["state_dict"], f"the model in {path}")
    loaded = ["model"]
    for key, target in (("optimizer", optimizer), ("scheduler", scheduler)):
        if target is None:
            continue
        if checkpoint.get(key) is None:
            print(f"{path} holds no {key} state: the {key} starts anew")
            continue
        load_state(target, checkpoint[key], f"the {key} in {path}")
        loaded.append(key)
    print(f"Resumed {', '.join(loaded)} from {path} (epoch {checkpoint['epoch']})")
