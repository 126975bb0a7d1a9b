"""Checkpoint files: <folder>/model.pth.tar-<epoch>, and a text file with the newest one's name."""

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

POINTER = "checkpoint"  # text file with the name of the newest checkpoint in its folder
BEST = "model-best.pth.tar"
# Buffers in CoOp's checkpoints that depend on the class names of the run.
CLASS_NAME_BUFFERS = ("token_prefix", "token_suffix", "tokenized_prompts")


def epoch_file(epoch: int) -> str:
    """Return the name of the checkpoint after `epoch` finished epochs."""
    return f"model.pth.tar-{epoch}"


def without_module_prefix(state_dict: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Remove the prefix "module." of DataParallel from all keys."""
    return OrderedDict((key.removeprefix("module."), value) for key, value in state_dict.items())


def save_checkpoint(
    state: dict[str, Any],
    save_dir: PathLike,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> None:
    """Save `state` in `save_dir` as the newest checkpoint.

    Args:
        state: dict with at least "state_dict" and "epoch" (the number of finished epochs).
        is_best: also save it as model-best.pth.tar.
        remove_module_from_keys: remove the prefix "module." of DataParallel from all keys.
        model_name: file name instead of model.pth.tar-<epoch>.
    """
    if remove_module_from_keys:
        state = {**state, "state_dict": without_module_prefix(state["state_dict"])}
    save_checkpoints({Path(save_dir): state}, is_best, model_name)


def save_checkpoints(
    states: Mapping[Path, dict[str, Any]], is_best: bool = False, model_name: str = ""
) -> None:
    """Save {folder: state} as one set.

    All files appear together before they become the newest, so an interruption cannot mix sets.
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
    """Return a folder's newest checkpoint, or None; raise a UsageError if its file is missing."""
    folder = Path(fdir)
    pointer = folder / POINTER
    if not pointer.is_file():
        return None
    name = pointer.read_text(encoding="utf-8").strip()
    if not name or Path(name).name != name or not (folder / name).is_file():
        raise UsageError(
            f"{str(pointer)!r} names {name!r} as the newest checkpoint, but the folder has "
            f"{list_checkpoints(folder)}; write one of these into it, or remove the folder"
        )
    return folder / name


def list_checkpoints(folder: PathLike) -> str:
    """Return the names of the checkpoints in a folder for a message."""
    if not Path(folder).is_dir():
        return "no such folder"
    names = sorted(path.name for path in Path(folder).glob("model*.pth.tar*"))
    return ", ".join(names) or "no checkpoint"


def load_checkpoint(fpath: PathLike) -> dict[str, Any]:
    """Load a checkpoint's dict to the CPU without executing code.

    Raises:
        UsageError: the file is missing or broken, or contains anything but tensors, plain
            containers, optimizers and schedulers.
    """
    if fpath is None:
        raise UsageError("load_checkpoint needs a path, got None")
    checkpoint = safe_torch_load(fpath)
    if not isinstance(checkpoint, dict):
        raise UsageError(
            f"{str(fpath)!r} contains a {type(checkpoint).__name__}, not the dict of a checkpoint"
        )
    return checkpoint


def load_run_checkpoint(path: PathLike) -> dict[str, Any]:
    """Load a checkpoint of a run, and check that it has weights and an epoch.

    Raises:
        UsageError: see `load_checkpoint`; or the file has other contents, such as bare weights.
    """
    checkpoint = load_checkpoint(path)
    missing = [key for key in ("state_dict", "epoch") if key not in checkpoint]
    if missing:
        reason = f"it has no {' and no '.join(missing)}"
    elif not _is_state_dict(checkpoint["state_dict"]):
        reason = "its state_dict is not a dict of tensors"
    elif not isinstance(checkpoint["epoch"], int):
        reason = f"its epoch is {checkpoint['epoch']!r}, not an integer"
    else:
        return checkpoint
    raise UsageError(
        f"{str(path)!r} is not a checkpoint of a run: {reason}; use the output folder of a run"
    )


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in value.items()
    )


def load_weights(model: nn.Module, state_dict: Mapping[str, torch.Tensor], what: str) -> None:
    """Load the weights of a model; drop CoOp's class-name buffers if the model has none."""
    own = model.state_dict()
    dropped = [
        key for key in state_dict if key not in own and key.rpartition(".")[2] in CLASS_NAME_BUFFERS
    ]
    if dropped:
        print(f"Dropped {', '.join(dropped)} of {what}: they depend on the class names")
        state_dict = {key: value for key, value in state_dict.items() if key not in dropped}
    load_state(model, state_dict, what)


def load_state(target: Any, state: Any, what: str) -> None:
    """Call `target.load_state_dict(state)`; raise a UsageError if the state does not fit."""
    try:
        target.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError) as error:
        reason = textwrap.shorten(str(error), width=300, placeholder=" ...")
        raise UsageError(
            f"{what} does not fit this run: {reason}; resume with the settings of the run that "
            "saved it, or choose another OUTPUT_DIR"
        ) from error


def resume_from_checkpoint(
    fdir: PathLike,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
) -> int:
    """Restore a model, its optimizer and its scheduler from the newest checkpoint of a folder.

    Returns:
        The number of finished epochs, which is the index of the next epoch.
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
    """Load a checkpoint of `load_run_checkpoint` into the objects, and print missing parts."""
    bare = model.module if isinstance(model, nn.DataParallel) else model
    load_weights(bare, checkpoint["state_dict"], f"the model in {path}")
    loaded = ["model"]
    for key, target in (("optimizer", optimizer), ("scheduler", scheduler)):
        if target is None:
            continue
        if checkpoint.get(key) is None:
            print(f"{path} has no {key} state: the {key} starts from scratch")
            continue
        load_state(target, checkpoint[key], f"the {key} in {path}")
        loaded.append(key)
    print(f"Resumed {', '.join(loaded)} from {path} (epoch {checkpoint['epoch']})")
