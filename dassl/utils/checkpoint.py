"""Checkpoint files: <folder>/model.pth.tar-<epoch>, model-best.pth.tar and a pointer to the newest.

The pointer is written for other programs of this family; here the newest checkpoint is found by its
epoch.
"""

import io
import math
import re
import textwrap
from collections import OrderedDict
from collections.abc import Mapping
from os.path import commonpath
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .errors import UsageError
from .file_set import FileSet
from .random_state import RandomState, set_random_state
from .safe_load import safe_torch_load
from .state_check import missing_settings, optimizer_problem, random_state_problem
from .tools import PathLike

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
    """Save {folder: state} as one set: all files appear together, or none of them."""
    with FileSet(commonpath(states)) as files:
        newest = write_checkpoints(files, states, is_best, model_name)
    print_saved(newest)


def write_checkpoints(
    files: FileSet,
    states: Mapping[Path, dict[str, Any]],
    is_best: bool = False,
    model_name: str = "",
) -> list[Path]:
    """Add {folder: state} to ``files``, with the pointers; return the path of each state."""
    paths = []
    for folder, state in states.items():
        path = folder / (model_name or epoch_file(state["epoch"]))
        content = _to_bytes(state)
        for name in dict.fromkeys([path.name, BEST] if is_best else [path.name]):
            files.write(folder / name, content)
        files.write(folder / POINTER, f"{path.name}\n".encode())
        paths.append(path)
    return paths


def print_saved(paths: list[Path]) -> None:
    """Print a line for each saved checkpoint."""
    for path in paths:
        print(f"Checkpoint saved to {path}")


def _to_bytes(state: dict[str, Any]) -> bytes:
    # torch.save reports a full disk as a RuntimeError without a path; open() does better.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def checkpoint_files(folder: PathLike) -> dict[str, int | None]:
    """Return {file: epoch in its name} of the checkpoints in a folder; None: it has no number."""
    found: dict[str, int | None] = {}
    for path in Path(folder).glob("model*.pth.tar*"):
        match = re.fullmatch(r"model\.pth\.tar-(\d{1,9})", path.name)
        if match:
            found[path.name] = int(match[1])
        elif path.suffix == ".tar":
            found[path.name] = None
    return found


def newest_checkpoint(fdir: PathLike) -> Path | None:
    """Return the checkpoint of a folder with the most epochs; None if it has none."""
    folder = Path(fdir)
    files = checkpoint_files(folder)
    numbered = [name for name, epoch in files.items() if epoch is not None]
    best = max(numbered, key=lambda name: files[name] or 0, default=None)
    most = -1 if best is None else files[best] or 0
    for name in sorted(files.keys() - set(numbered)):
        epoch = load_run_checkpoint(folder / name)["epoch"]
        if epoch > most:
            best, most = name, epoch
    return None if best is None else folder / best


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
    problem = _run_problem(checkpoint)
    if problem:
        raise UsageError(
            f"{str(path)!r} is not a checkpoint of a run: {problem}; use the output folder of a "
            "run, or delete the file"
        )
    return checkpoint


def _run_problem(checkpoint: dict[str, Any]) -> str:
    missing = [key for key in ("state_dict", "epoch") if key not in checkpoint]
    if missing:
        return f"it has no {' and no '.join(missing)}"
    if not _is_state_dict(checkpoint["state_dict"]):
        return "its state_dict is not a dict of tensors"
    for key in ("epoch", "best_epoch"):
        value = checkpoint.get(key, 0)
        if type(value) is not int or not 0 <= value < 10**9:
            return f"its {key} is {value!r:.40}, not an integer of at least 0"
    for key in ("val_result", "best_result"):
        value = checkpoint.get(key)
        if value is not None and (not _is_number(value) or math.isnan(value)):
            return f"its {key} is {value!r:.40}, not a number"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
        reason = ""
        if isinstance(target, torch.optim.Optimizer):
            reason = optimizer_problem(target, state)
        if not reason:
            known = [set(group) for group in getattr(target, "param_groups", [])]
            target.load_state_dict(state)
            # torch adds settings of newer versions to the groups of an old file, but no others.
            reason = missing_settings(known, target)
        if not reason:
            return
        cause = None
    except Exception as error:  # what a file contains can raise any exception
        reason, cause = str(error) or type(error).__name__, error
    reason = textwrap.shorten(reason, width=300, placeholder=" ...")
    raise UsageError(
        f"{what} does not fit this run: {reason}; resume with the settings of the run that saved "
        "it, or choose another OUTPUT_DIR"
    ) from cause


def load_random_state(state: RandomState, what: str) -> None:
    """Restore the random generators; raise a UsageError if the state has another form."""
    problem = random_state_problem(state)
    if not problem:
        try:
            set_random_state(state)
            return
        except UsageError:
            raise
        except Exception as error:  # what a file contains can raise any exception
            problem = str(error) or type(error).__name__
    raise UsageError(
        f"the random states in {what} are damaged ({problem}): delete the file to continue from an "
        "earlier epoch"
    )


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
