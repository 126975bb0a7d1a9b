"""Which method an output folder is of, by the keys of its checkpoints, and whether it is whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dassl.utils import UsageError

RELEASED = {"TextRefinerCoOp": "COOP", "TextRefinerPromptKD": "PROMPTKD"}  # and their config nodes

_ALIGNMENT = [
    *(f"{layer}.{kind}" for layer in ("inner", "norm", "outer") for kind in ("weight", "bias")),
    *(f"norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")),
]
_REFINER = ["cache.entries", "aggregate.weight", *(f"align.{key}" for key in _ALIGNMENT)]
_META_NET = [f"meta_net.linear{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")]
# Folders of a run -> what it may be; with "Memory" besides, it is refined.
_BY_FOLDER = {
    "prompt_learner": ("CoOp", "CoCoOp"),
    "MultiModalPromptLearner": ("MaPLe", "MaPLe"),
    "VLPromptLearner": ("PromptSRC", "PromptKD"),
}


_BLOCK = r"resblocks\.\d+\.(attn\.(in_proj_|out_proj\.)|ln_[12]\.|mlp\.c_(fc|proj)\.)(weight|bias)"
_CLIP = re.compile(
    rf"(visual\.)?(transformer\.{_BLOCK}|positional_embedding)|logit_scale|text_projection"
    r"|token_embedding\.weight|ln_final\.(weight|bias)"
    r"|visual\.(class_embedding|proj|conv1\.weight|ln_(pre|post)\.(weight|bias))"
    r"|visual\.(conv[123]|bn[123]|layer\d\.\d+\..*|attnpool\..*)(\..*)?"  # a ResNet
)


def check_clip_names(where: Path, names: Mapping[str, str]) -> None:
    """Raise a UsageError for what stands inside a tower and is none of CLIP's own weights.

    Args:
        where: the checkpoint, for the message.
        names: keys of the file -> their names in CLIP.
    """
    unknown = [key for key, name in names.items() if not _CLIP.fullmatch(name)]
    if unknown:
        raise UsageError(f"{where} holds {', '.join(unknown)}, which CLIP does not have")


def method_of(source: Path, folders: Iterable[str], keys: Iterable[str]) -> str:
    """The trainer's name, from the folders of a run and its keys "<model>.<parameter>".

    Raises:
        UsageError: a folder of no method, or half of one.
    """
    names, keys = set(folders), list(keys)
    models = names - {"Memory"}
    if len(models) != 1 or not models <= _BY_FOLDER.keys():
        raise UsageError(
            f"{source} holds {', '.join(sorted(names))}: expected one of {', '.join(_BY_FOLDER)}, "
            "and Memory beside it where TextRefiner was trained"
        )
    if "Memory" not in names and any(key.startswith("Memory.") for key in keys):
        raise UsageError(f"{source} is half a folder: TextRefiner's Memory is not there")
    plain, other = _BY_FOLDER[models.pop()]
    markers = ("prompt_learner.meta_net.", "VLPromptLearner.VPT_image_trans.")
    method = other if any(key.startswith(markers) for key in keys) else plain
    return f"TextRefiner{method}" if "Memory" in names else method


def check_keys(where: Path, method: str, learned: Mapping[str, Any]) -> None:
    """Raise a UsageError that names what a checkpoint lacks, or has too much.

    Args:
        where: the checkpoint, for the message.
        method: what it is of.
        learned: by our names, "<model>.<parameter>".
    """
    expected = set(_expected(method.removeprefix("TextRefiner"), list(learned)))
    if method.startswith("TextRefiner"):
        expected |= {f"Memory.{key}" for key in _REFINER}
    lacking, unknown = sorted(expected - learned.keys()), sorted(learned.keys() - expected)
    if lacking:
        raise UsageError(f"{where} is no whole {method}: it lacks {', '.join(lacking)}")
    if unknown:
        raise UsageError(f"{where} holds {', '.join(unknown)}, which {method} does not have")


def _expected(method: str, keys: list[str]) -> list[str]:
    """The keys of a plain method; where depth is a setting, as deep as ``keys`` are."""
    if method == "CoOp":
        return ["prompt_learner.ctx"]
    if method == "CoCoOp":
        return [f"prompt_learner.{key}" for key in ("ctx", *_META_NET)]
    if method == "MaPLe":
        first = "MultiModalPromptLearner.prompt_learner"
        texts = _numbered(keys, f"{first}.compound_prompts_text.", "", 0)
        maps = [text.replace("prompts_text", "prompt_projections") for text in texts]
        linear = [f"{name}.{kind}" for name in maps for kind in ("weight", "bias")]
        return [*(f"{first}.{k}" for k in ("ctx", "proj.weight", "proj.bias")), *texts, *linear]
    owner = "VLPromptLearner"
    resblocks, leaf = "transformer.resblocks.", ".VPT_shallow"
    deep = _numbered(keys, f"{owner}.image_encoder.{resblocks}", leaf, 1)
    visual = [f"{owner}.image_encoder.VPT", *deep]
    if method == "PromptKD":
        return [*visual, *(f"{owner}.VPT_image_trans.{key}" for key in _ALIGNMENT)]
    if not any(key.startswith(f"{owner}.image_encoder.") for key in keys):
        visual = []  # PROMPT_DEPTH_VISION 0
    own = [key for key in keys if key == f"{owner}.aggregate"]  # ours may hold it
    text = _numbered(keys, f"{owner}.text_encoder.{resblocks}", leaf, 1)
    return [f"{owner}.prompt_learner.ctx", *visual, *text, *own]


def _numbered(keys: list[str], before: str, after: str, first: int) -> list[str]:
    """As many numbered keys as there are, counted without gaps."""
    count = sum(key.startswith(before) and key.endswith(after) for key in keys)
    return [f"{before}{number}{after}" for number in range(first, first + count)]
