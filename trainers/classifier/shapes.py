"""Read settings from the shapes of learned tensors, for folders that do not record them."""

import os
from collections.abc import Mapping
from typing import Any

from ..checkpoints.layouts import (
    ATTRIBUTE_TOKENS,
    CLIP_ADAPTER,
    IMAGE_ENCODER,
    MEMORY,
    MULTI_MODAL,
    PROMPT_LEARNER,
    REPRESENTATION,
    TEXT_ENCODER,
    VL_PROMPT_LEARNER,
)
from ..checkpoints.record import RECORD
from ..settings import SettingsError
from .recorded import Recorded

__all__ = ["READERS", "shape_settings"]

Shapes = Mapping[str, Mapping[str, str]]  # model -> tensor -> "4 x 64"


def shape_settings(recorded: Recorded) -> dict[str, Any]:
    """Return the settings that follow from the shapes of the tensors in checkpoint.json."""
    method = recorded.method.removeprefix("TextRefiner") or "CoOp"
    tensors, found = recorded.tensors, {}
    try:
        if MEMORY in tensors:
            cache = tensors[MEMORY]["cache.entries"]
            found["TRAINER.TEXTREFINER.CACHE_SIZE"] = _size(cache, 0)
        if tensors and method in READERS:
            section = f"TRAINER.{method.upper()}"
            found |= {f"{section}.{k}": v for k, v in READERS[method](tensors).items()}
    except (KeyError, IndexError, ValueError) as error:
        raise SettingsError(
            f"the tensors in {os.path.join(recorded.folder, RECORD)} are not those of "
            f"{recorded.method} ({error}): restore the file from a copy"
        ) from error
    return found


def _size(shape: str, axis: int) -> int:
    return int(shape.split(" x ")[axis])


def _context(tensors: Shapes) -> dict[str, Any]:
    return {"N_CTX": _size(tensors[PROMPT_LEARNER]["ctx"], -2)}


def _coop(tensors: Shapes) -> dict[str, Any]:
    class_specific = tensors[PROMPT_LEARNER]["ctx"].count(" x ") == 2
    return {**_context(tensors), "CSC": class_specific}


def _random_context(tensors: Shapes) -> dict[str, Any]:
    return {**_context(tensors), "CTX_INIT": ""}  # words by default, whose number replaces N_CTX


def _attributes(tensors: Shapes) -> dict[str, Any]:
    tokens = tensors[PROMPT_LEARNER][f"{ATTRIBUTE_TOKENS}1"]
    return {**_context(tensors), "N_ATT": _size(tokens, 0)}


def _adapter(tensors: Shapes) -> dict[str, Any]:
    weight = tensors[CLIP_ADAPTER]["fc.0.weight"]
    return {"REDUCTION": _size(weight, 1) // _size(weight, 0)}


def _maple(tensors: Shapes) -> dict[str, Any]:
    shapes = tensors[MULTI_MODAL]
    deeper = sum(key.startswith(f"{PROMPT_LEARNER}.compound_prompts_text.") for key in shapes)
    return {"N_CTX": _size(shapes[f"{PROMPT_LEARNER}.ctx"], 0), "PROMPT_DEPTH": 1 + deeper}


def _mmrl(tensors: Shapes) -> dict[str, Any]:
    shape = tensors[MULTI_MODAL][f"{REPRESENTATION}.compound_rep_tokens"]
    return {"N_REP_TOKENS": _size(shape, 0), "REP_DIM": _size(shape, 1)}


def _deep(shapes: Mapping[str, str], encoder: str) -> int:
    return sum(key.startswith(f"{encoder}.transformer.resblocks.") for key in shapes)


def _visual(tensors: Shapes) -> dict[str, Any]:
    shapes = tensors[VL_PROMPT_LEARNER]
    first = shapes.get(f"{IMAGE_ENCODER}.VPT")
    if first is None:
        return {"PROMPT_DEPTH_VISION": 0}
    depth = 1 + _deep(shapes, IMAGE_ENCODER)
    return {"N_CTX_VISION": _size(first, 0), "PROMPT_DEPTH_VISION": depth}


def _promptsrc(tensors: Shapes) -> dict[str, Any]:
    shapes = tensors[VL_PROMPT_LEARNER]
    length = _size(shapes[f"{PROMPT_LEARNER}.ctx"], 0)
    depth = 1 + _deep(shapes, TEXT_ENCODER)
    return {**_visual(tensors), "N_CTX_TEXT": length, "PROMPT_DEPTH_TEXT": depth}


READERS = {
    "CoOp": _coop,
    "CoCoOp": _context,
    "KgCoOp": _random_context,
    "TCP": _context,
    "ATPrompt": _attributes,
    "CLIPAdapter": _adapter,
    "MaPLe": _maple,
    "MMRL": _mmrl,
    "PromptSRC": _promptsrc,
    "PromptKD": _visual,
}
