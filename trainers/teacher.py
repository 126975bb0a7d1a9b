"""PromptKD's teacher: a CLIP with the prompts that PromptSRC trained."""

import os
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from yacs.config import CfgNode

from .checkpoint import fill, read_tensors
from .deep import IndependentPrompts, IndependentPromptsLearner
from .settings import SettingsError, node

__all__ = ["load_teacher", "teacher_path"]

MODALS = ("base2novel", "cross")
NAME = "VLPromptLearner"


def teacher_path(cfg: CfgNode) -> str:
    """TRAINER.PROMPTKD.TEACHER_WEIGHTS, or where PromptKD's public code looks.

    Raises:
        SettingsError: there is no such file.
    """
    path = node(cfg, "PROMPTKD").TEACHER_WEIGHTS
    if not path and cfg.TRAINER.get("MODAL") == "cross":
        path = os.path.join("teacher_model", "ImageNet-xd", f"{NAME}_large", "model.pth.tar-20")
    elif not path:
        path = os.path.join("teacher_model", cfg.DATASET.NAME, NAME, "model-best.pth.tar")
    if not os.path.isfile(path):
        raise SettingsError(
            f"there is no teacher at {path}: put PromptKD's published file there, or train one "
            "(python train.py --trainer PromptSRC --config-file configs/trainers/PromptSRC/"
            "vit_l14_c2_ep20_batch8_4+4ctx.yaml ...) and set TRAINER.PROMPTKD.TEACHER_WEIGHTS to "
            f"OUTPUT_DIR/{NAME}/model.pth.tar-20"
        )
    return path


def load_teacher(
    clip_model: Any, classnames: Sequence[str], path: str, ctx_init: str
) -> IndependentPromptsLearner:
    """The frozen teacher for these classes; number and depth of its prompts are the file's.

    Args:
        clip_model: the teacher's CLIP, any width.
        classnames: C names; those of the teacher's training do not matter.
        path: a checkpoint of PromptSRC, of ours or in the public layout.
        ctx_init: the words that its context started from (some may stay as text behind it).

    Raises:
        SettingsError: the file is none of PromptSRC, or belongs to another CLIP.
    """
    state = read_tensors(NAME, path, clip_model, "TRAINER.PROMPTKD.TEACHER_NAME")
    context = state.get("prompt_learner.ctx")
    if context is None:
        raise SettingsError(
            f"{path} holds no prompt_learner.ctx: TRAINER.PROMPTKD.TEACHER_WEIGHTS must be a "
            f"checkpoint of PromptSRC; this one holds {', '.join(sorted(state)[:5])}"
        )
    width = clip_model.ln_final.weight.shape[0]
    if context.shape[-1] != width:
        raise SettingsError(
            f"the teacher in {path} has prompts of width {context.shape[-1]}, its CLIP a text "
            f"tower of width {width}: set TRAINER.PROMPTKD.TEACHER_NAME to the CLIP of its training"
        )
    deep = IndependentPrompts(clip_model, classnames, _sizes(state, context, ctx_init))
    fill(NAME, deep, state, path)
    return IndependentPromptsLearner(clip_model, deep.requires_grad_(False))


def _sizes(state: dict[str, Tensor], context: Tensor, ctx_init: str) -> CfgNode:
    """The settings that give prompts of the shapes in ``state``."""

    def blocks(tower: str) -> int:
        return sum(key.startswith(f"{tower}.transformer.resblocks.") for key in state)

    visual = state.get("image_encoder.VPT")
    return CfgNode(
        {
            "N_CTX_TEXT": context.shape[0],
            "N_CTX_VISION": 1 if visual is None else visual.shape[0],
            "CTX_INIT": ctx_init,
            "PROMPT_DEPTH_TEXT": 1 + blocks("text_encoder"),
            "PROMPT_DEPTH_VISION": 0 if visual is None else 1 + blocks("image_encoder"),
        }
    )
