"""A file of weights -> its tensors, whatever common format it is in, and without running it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from .errors import WeightsError
from .torchscript import read_torchscript

_ZIP = b"PK\x03\x04"
_GIT_LFS = b"version https://git-lfs"
_PREFIX = "module."  # of weights that were saved under DataParallel

EMBEDDING, ROWS = "token_embedding.weight", "token_embedding.rows"


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a TorchScript archive, of a ``torch.save``d state dict, or of safetensors.

    A checkpoint that keeps them under "state_dict" is opened, a "module." before every name is
    dropped, and a compact vocabulary (see :func:`expand_vocabulary`) is expanded.

    Raises:
        WeightsError: the file is none of these, is damaged, or would need code to be run.
    """
    path = Path(path)
    try:
        state_dict = _read(path)
    except (WeightsError, zipfile.BadZipFile, OSError) as error:
        raise WeightsError(f"cannot read CLIP weights from {path}: {error}") from error
    if state_dict and all(name.startswith(_PREFIX) for name in state_dict):
        state_dict = {name.removeprefix(_PREFIX): value for name, value in state_dict.items()}
    return state_dict


def _read(path: Path) -> dict[str, torch.Tensor]:
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise WeightsError("the file is empty")
    if head.startswith(_GIT_LFS):
        raise WeightsError("it is a Git LFS pointer; run `git lfs pull` where it came from")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError("it is a web page, not weights; download the file itself")
    if head.startswith(_ZIP):
        return _read_zip(path)
    # A safetensors file opens with the length of its JSON header.
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return _read_safetensors(path)
    return _read_pickle(path)


def _read_zip(path: Path) -> dict[str, torch.Tensor]:
    if not zipfile.is_zipfile(path):
        raise WeightsError("it is cut short (a zip archive without its end); download it again")
    with zipfile.ZipFile(path) as archive:
        members = {name.split("/", 1)[-1] for name in archive.namelist()}
        if "data.pkl" not in members:
            raise WeightsError("it is a zip archive, but not one of PyTorch: no data.pkl in it")
        if "constants.pkl" in members:
            return read_torchscript(archive)
    return _read_pickle(path)


def _read_pickle(path: Path) -> dict[str, torch.Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a file of anything makes the unpickler raise has no end
        reason = str(error).split("\n")[0] or type(error).__name__
        raise WeightsError(
            "it is damaged, or holds more than tensors (save model.state_dict() instead of the"
            f" model); PyTorch says: {reason}"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    return _only_tensors(content)


def _only_tensors(content: Any) -> dict[str, torch.Tensor]:
    if not isinstance(content, dict):
        raise WeightsError(f"it holds {type(content).__name__} instead of a state dict")
    others = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise WeightsError(f"it is not a state dict: {others[0]!r} is not a tensor")
    return dict(content)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            state_dict = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(f"it is damaged; safetensors says: {error}") from error
    return expand_vocabulary(state_dict, metadata) if ROWS in state_dict else state_dict


def expand_vocabulary(
    state_dict: dict[str, torch.Tensor], metadata: dict[str, str]
) -> dict[str, torch.Tensor]:
    """Undo a compact vocabulary: embeddings (V', width) of the ids in ``token_embedding.rows``.

    The result has ``metadata["vocab_size"]`` rows; those of all other ids are zero.
    """
    rows = state_dict[ROWS].long()
    compact = state_dict[EMBEDDING]
    vocab_size = int(metadata.get("vocab_size", 0))
    if len(rows) != len(compact) or len(rows.unique()) != len(rows):
        raise WeightsError(f"its {len(compact)} embeddings have not one id each in {ROWS}")
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < vocab_size:
        raise WeightsError(f"{ROWS} has ids outside its vocab_size, {vocab_size}")
    full = compact.new_zeros(vocab_size, compact.shape[1])
    full[rows] = compact
    rest = {name: value for name, value in state_dict.items() if name != ROWS}
    return {**rest, EMBEDDING: full}
