"""Read the tensors of a weights file in any common format, without executing any of it."""

import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from .errors import WeightsError
from .torchscript import read_torchscript

_PREFIX = "module."  # added by DataParallel

EMBEDDING, ROWS = "token_embedding.weight", "token_embedding.rows"


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a TorchScript archive, a saved state dict or a safetensors file.

    A state dict may be nested under "state_dict" and have names that start with "module.". A
    compact vocabulary is expanded (see :func:`expand_vocabulary`).

    Raises:
        WeightsError: the file has another format, is damaged, or contains code.
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
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError("it is a Git LFS pointer; run `git lfs pull` in its repository")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError("it is a web page, not weights; download the file itself")
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(path)
    # A safetensors file starts with the length of its JSON header (8 bytes).
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return _read_safetensors(path)
    return _read_pickle(path)


def _read_zip(path: Path) -> dict[str, torch.Tensor]:
    if not zipfile.is_zipfile(path):
        raise WeightsError("it is truncated (a zip archive without its end); download it again")
    with zipfile.ZipFile(path) as archive:
        members = {name.split("/", 1)[-1] for name in archive.namelist()}
        if "data.pkl" not in members:
            raise WeightsError("it is a zip archive without data.pkl, so not one of PyTorch")
        if "constants.pkl" in members:
            return read_torchscript(archive)
    return _read_pickle(path)


def _read_pickle(path: Path) -> dict[str, torch.Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an arbitrary file can make the unpickler raise anything
        reason = str(error).split("\n")[0] or type(error).__name__
        raise WeightsError(
            "it is damaged, or contains more than tensors (save model.state_dict() instead of the"
            f" model); PyTorch reports: {reason}"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise WeightsError(f"it contains a {type(content).__name__} instead of a state dict")
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
        raise WeightsError(f"it is damaged; safetensors reports: {error}") from error
    return expand_vocabulary(state_dict, metadata) if ROWS in state_dict else state_dict


def expand_vocabulary(
    state_dict: dict[str, torch.Tensor], metadata: dict[str, str]
) -> dict[str, torch.Tensor]:
    """Expand token embeddings (V', width) of the ids in ``token_embedding.rows`` to all ids.

    The result has ``metadata["vocab_size"]`` rows; rows of ids that are not listed are zero.
    """
    rows = state_dict[ROWS].long()
    compact = state_dict[EMBEDDING]
    vocab_size = int(metadata.get("vocab_size", 0))
    if len(rows) != len(compact) or len(rows.unique()) != len(rows):
        raise WeightsError(
            f"{ROWS} must have one distinct id for each of {len(compact)} embeddings"
        )
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < vocab_size:
        raise WeightsError(f"{ROWS} has ids outside its vocab_size, {vocab_size}")
    full = compact.new_zeros(vocab_size, compact.shape[1])
    full[rows] = compact
    rest = {name: value for name, value in state_dict.items() if name != ROWS}
    return {**rest, EMBEDDING: full}
