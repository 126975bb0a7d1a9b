"""Names in the public checkpoints of this family, ours and back.

Public files of TextRefiner, MaPLe, PromptSRC and PromptKD hold the whole model: what was learned,
buffers that follow from the class names, and CLIP's own weights. docs/checkpoints.md has the table.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..learner import class_tokens

__all__ = ["Content", "clip_name", "read_content", "release_files"]

# Buffers that belong to the class names of the training run (compat.md); PromptKD's code keeps
# those of base and new classes apart.
CLASS_BUFFERS = (
    "token_prefix",
    "token_suffix",
    "token_prefix2",
    "token_suffix2",
    "tokenized_prompts",
)
# The release's names (alignment and projector are two 1x1 convolutions around a BatchNorm) -> ours.
RELEASE_NAMES = {
    "mid_image_trans.conv1.0.": "Memory.align.inner.",
    "mid_image_trans.conv1.1.": "Memory.align.norm.",
    "mid_image_trans.conv1.3.": "Memory.align.outer.",
    "VPT_image_trans.conv1.0.": "VLPromptLearner.VPT_image_trans.inner.",
    "VPT_image_trans.conv1.1.": "VLPromptLearner.VPT_image_trans.norm.",
    "VPT_image_trans.conv1.3.": "VLPromptLearner.VPT_image_trans.outer.",
    "extractor.": "Memory.aggregate.",
}
TOWERS = {
    "prompt_learner.ZS_image_encoder.": "visual.",  # PromptSRC's frozen copy
    "image_encoder.": "visual.",
    "text_encoder.": "",
    "logit_scale": "logit_scale",
}
DEEP_PROMPTS = ("VPT", "VPT_shallow")  # parameters that stand inside the public towers


class Content(NamedTuple):
    """The tensors of one checkpoint file, every one in one of three places.

    learned: by our names, "<model>.<parameter>".
    clip: CLIP's own weights, by the file's names; `clip_name` translates them.
    class_buffers: by their last name.
    """

    learned: dict[str, Tensor]
    clip: dict[str, Tensor]
    class_buffers: dict[str, Tensor]


def read_content(name: str, checkpoint: Mapping[str, Any]) -> Content:
    """Sort the tensors of a checkpoint of the model ``name``, in any public layout or ours."""
    content = Content({}, {}, {})
    for key, value in checkpoint["state_dict"].items():
        own, leaf = _own_name(name, key), key.rsplit(".", 1)[-1]
        if own is None:
            content.clip[key] = value
        elif leaf in CLASS_BUFFERS:
            content.class_buffers[leaf] = value
        else:
            is_convolution = own.endswith(("inner.weight", "outer.weight")) and value.dim() == 4
            content.learned[own] = value.flatten(1) if is_convolution else value
    if "memory_item" in checkpoint:  # the release keeps the cache beside the state dict
        content.learned[f"{name}.cache.entries"] = checkpoint["memory_item"].detach()
    return content


def clip_name(key: str) -> str:
    """A key of `Content.clip` by OpenAI's name."""
    old = next(prefix for prefix in TOWERS if key.startswith(prefix))
    return TOWERS[old] + key[len(old) :]


def _own_name(name: str, key: str) -> str | None:
    """A checkpoint's key -> ours, "<model>.<parameter>", or None for a weight of CLIP."""
    for old, new in RELEASE_NAMES.items():
        if key.startswith(old):
            return new + key[len(old) :]
    inside = key.startswith(tuple(TOWERS))
    if inside and key.rsplit(".", 1)[-1] not in DEEP_PROMPTS:
        return None
    return key if key.startswith(f"{name}.") else f"{name}.{key}"


def release_files(
    learned: Mapping[str, Tensor], clip_model: Any, context: str, classnames: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """What the TextRefiner release writes: {model: {"state_dict": ..., ["memory_item": ...]}}.

    Args:
        learned: of TextRefinerCoOp or TextRefinerPromptKD, by our names, "<model>.<parameter>".
        clip_model: in the precision of the run; its weights are part of the files.
        context: initial words before the class names; the release's CoOp saves their embeddings.
        classnames: C names; neither is needed for PromptKD.
    """
    owner = "prompt_learner" if "prompt_learner.ctx" in learned else "VLPromptLearner"
    weights = clip_model.state_dict()
    state = {"logit_scale": weights["logit_scale"]}
    if owner == "prompt_learner":
        context_tensor = learned["prompt_learner.ctx"]
        state["prompt_learner.ctx"] = context_tensor
        buffers = _class_buffers(clip_model, context, classnames, context_tensor.shape[-2])
        state |= {f"prompt_learner.{key}": value for key, value in buffers.items()}
    for key, value in weights.items():
        if key.startswith("visual."):
            state[f"image_encoder.{key.removeprefix('visual.')}"] = value
        elif owner == "prompt_learner" and key != "logit_scale":
            state[f"text_encoder.{key}"] = value
    prefix = f"{owner}."
    for key, value in learned.items():
        if key.startswith(prefix) and key.rsplit(".", 1)[-1] in DEEP_PROMPTS:
            state[key.removeprefix(prefix)] = value
    memory: dict[str, Tensor] = {}
    for old, new in RELEASE_NAMES.items():
        target = memory if old == "extractor." else state
        for key, value in learned.items():
            if key.startswith(new):
                is_linear = new.endswith(("inner.", "outer.")) and value.dim() == 2
                target[old + key[len(new) :]] = value[..., None, None] if is_linear else value
    return {
        owner: {"state_dict": state},
        "Memory": {"memory_item": learned["Memory.cache.entries"], "state_dict": memory},
    }


@torch.no_grad()
def _class_buffers(
    clip_model: Any, context: str, classnames: Sequence[str], n_ctx: int
) -> dict[str, Tensor]:
    """CoOp's: embeddings (C, 1, W) before and (C, rest, W) after the context; ids (C, L)."""
    ids = class_tokens(clip_model, context, classnames).ids
    embeddings = clip_model.token_embedding(ids).to(clip_model.dtype)
    return {
        "token_prefix": embeddings[:, :1].clone(),
        "token_suffix": embeddings[:, 1 + n_ctx :].clone(),
        "tokenized_prompts": ids.long(),
    }
