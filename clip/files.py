"""Read the tensors of a weights file in any common format, without executing any of it."""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from dassl.utils.safe_load import inert_classes
from dassl.utils.torch_file import TorchFileError, open_archive, read_torch_file

from .errors import WeightsError
from .torchscript import read_torchscript

_PREFIX = "module."  # added by DataParallel
# Where training scripts keep the weights in a checkpoint.
_WRAPPERS = ("state_dict", "model_state_dict", "model")

EMBEDDING, ROWS = "token_embedding.weight", "token_embedding.rows"
MAX_NAME = 200  # characters of a tensor's name
MAX_VOCABULARY = 1_000_000  # rows; OpenAI's has 49,408


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a TorchScript archive, a saved state dict or a safetensors file.

    A state dict may be nested under "state_dict", "model_state_dict" or "model" and have names
    that start with "module.". A compact vocabulary is expanded (see :func:`expand_vocabulary`).

    Raises:
        WeightsError: the file has another format, is damaged, claims more than it has, or contains
            code.
        OSError: the file cannot be opened.
    """
    path = Path(path)
    try:
        state_dict = _read(path)
    except (WeightsError, TorchFileError) as error:
        raise WeightsError(f"cannot read CLIP weights from {path}: {error}") from error
    if long := next((name for name in state_dict if len(name) > MAX_NAME), None):
        raise WeightsError(
            f"cannot read CLIP weights from {path}: it has a name of {len(long):,} characters, "
            f"{long[:20]!r}..., so it is not the file of a model"
        )
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
    with open_archive(path) as archive:
        members = {name.split("/", 1)[-1] for name in archive.namelist()}
        if "data.pkl" not in members:
            raise WeightsError("it is a zip archive without data.pkl, so not one of PyTorch")
        if "constants.pkl" in members:
            return read_torchscript(archive, path.stat().st_size)
    return _read_pickle(path)


def _read_pickle(path: Path) -> dict[str, torch.Tensor]:
    try:
        content = read_torch_file(path, inert_classes())
    except TorchFileError as error:
        raise WeightsError(
            "it is damaged, or contains more than tensors (save model.state_dict() instead of the"
            f" model): {error}"
        ) from error
    return _state_dict(content)


def _state_dict(content: Any) -> dict[str, torch.Tensor]:
    """Return the state dict in the content of a file, which may be nested in a checkpoint."""
    for _ in _WRAPPERS:
        inner = (content.get(key) for key in _WRAPPERS) if isinstance(content, dict) else ()
        content = next((each for each in inner if isinstance(each, dict)), content)
    if not isinstance(content, dict):
        raise WeightsError(f"it contains a {type(content).__name__} instead of a state dict")
    for name, value in content.items():
        if not isinstance(name, str):
            raise WeightsError(
                f"it is not a state dict: it has a {type(name).__name__} where names are expected"
            )
        if not isinstance(value, torch.Tensor):
            raise WeightsError(f"it is not a state dict: {name[:80]!r} is not a tensor")
    return dict(content)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            state_dict = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        # The last four: data types that PyTorch lacks, and shapes beyond its integers.
        reason = str(error).splitlines()[0][:160]
        raise WeightsError(f"it is damaged; safetensors reports: {reason}") from error
    return expand_vocabulary(state_dict, metadata) if ROWS in state_dict else state_dict


def expand_vocabulary(
    state_dict: dict[str, torch.Tensor], metadata: dict[str, str]
) -> dict[str, torch.Tensor]:
    """Expand token embeddings (V', width) of the ids in ``token_embedding.rows`` to all ids.

    The result has ``metadata["vocab_size"]`` rows, at most `MAX_VOCABULARY`; rows of ids that are
    not listed are zero.
    """
    rows, compact = state_dict[ROWS], state_dict.get(EMBEDDING)
    vocab_size = _vocabulary(metadata)
    if compact is None or compact.dim() != 2:
        raise WeightsError(f"{ROWS} belongs to a matrix {EMBEDDING}, which is missing")
    if rows.dim() != 1 or rows.is_floating_point() or rows.is_complex():
        raise WeightsError(f"{ROWS} must be a list of whole numbers")
    rows = rows.long()
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


def _vocabulary(metadata: dict[str, str]) -> int:
    text = metadata.get("vocab_size", "0")
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) > MAX_VOCABULARY:
        raise WeightsError(
            f"its vocab_size is {text[:20]!r}, but must be a number up to {MAX_VOCABULARY:,}"
        )
    return int(text)
