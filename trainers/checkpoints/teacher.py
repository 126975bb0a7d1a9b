"""PromptKD's teacher: a CLIP with the prompts that PromptSRC trained."""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.utils import read_json

from ..prompting.deep import IndependentPrompts, IndependentPromptsLearner
from ..settings import SettingsError, node
from .fingerprints import RECORD
from .load import fill, read_tensors

__all__ = ["check_classes", "load_teacher", "teacher_path", "text_features"]

MODALS = ("base2novel", "cross")
NAME = "VLPromptLearner"


def teacher_path(cfg: CfgNode) -> str:
    """TRAINER.PROMPTKD.TEACHER_WEIGHTS, or where PromptKD's public code looks.

    Raises:
        SettingsError: there is no such file.
    """
    given, cross = node(cfg, "PROMPTKD").TEACHER_WEIGHTS, cfg.TRAINER.get("MODAL") == "cross"
    if cross:
        public = os.path.join("teacher_model", "ImageNet-xd", f"{NAME}_large", "model.pth.tar-20")
    else:
        public = os.path.join("teacher_model", cfg.DATASET.NAME, NAME, "model-best.pth.tar")
    path = given or public
    if not os.path.isfile(path):
        script = "teacher_xd.sh imagenet SEED" if cross else "teacher.sh DATASET SEED"
        raise SettingsError(
            f"there is no teacher at {path}: train one with scripts/promptsrc/{script} and set "
            f"TRAINER.PROMPTKD.TEACHER_WEIGHTS to its {NAME}/model.pth.tar-20 (the scripts do that "
            f"by themselves), or put PromptKD's published file at {public}"
            + (" and leave TEACHER_WEIGHTS out" if given else "")
        )
    return path


def check_classes(path: str, classnames: Collection[str], dataset: str) -> None:
    """Refuse a teacher of another dataset, as far as a record beside its checkpoint tells.

    In PromptKD's base2novel protocol the teacher has learned base classes of the same dataset.

    Args:
        path: its checkpoint.
        classnames: all that the dataset knows.
        dataset: its name, for the error.

    Raises:
        SettingsError: it has learned other classes.
    """
    record = os.path.join(os.path.dirname(os.path.dirname(path)), RECORD)
    learned = read_json(record)["classes"] if os.path.isfile(record) else []
    others = [name for name in learned if name not in classnames]
    if others:
        more = ", ..." if len(others) > 3 else ""
        raise SettingsError(
            f"the teacher in {path} has learned {', '.join(others[:3])}{more}, which are no "
            f"classes of {dataset}: set TRAINER.PROMPTKD.TEACHER_WEIGHTS to one that has, or "
            "TRAINER.MODAL cross for a teacher of other classes"
        )


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
    deep = IndependentPrompts(clip_model, classnames, _sizes(state, ctx_init))
    fill(NAME, deep, state, path)
    return IndependentPromptsLearner(clip_model, deep.requires_grad_(False))


@torch.no_grad()
def text_features(
    teacher: IndependentPromptsLearner, classnames: Sequence[str], ctx_init: str
) -> Tensor:
    """(C, d): what ``teacher`` says of other class names than those that it was built for."""
    state, clip_model = teacher.deep.state_dict(), teacher.clip_model
    deep = IndependentPrompts(clip_model, classnames, _sizes(state, ctx_init))
    deep.load_state_dict(state)
    deep.to(teacher.deep.prompt_learner.ctx.device)
    return IndependentPromptsLearner(clip_model, deep).encode_text()


def _sizes(state: Mapping[str, Tensor], ctx_init: str) -> CfgNode:
    """The settings that give prompts of the shapes in ``state``."""

    def blocks(tower: str) -> int:
        return sum(key.startswith(f"{tower}.transformer.resblocks.") for key in state)

    visual = state.get("image_encoder.VPT")
    return CfgNode(
        {
            "N_CTX_TEXT": state["prompt_learner.ctx"].shape[0],
            "N_CTX_VISION": 1 if visual is None else visual.shape[0],
            "CTX_INIT": ctx_init,
            "PROMPT_DEPTH_TEXT": 1 + blocks("text_encoder"),
            "PROMPT_DEPTH_VISION": 0 if visual is None else 1 + blocks("image_encoder"),
        }
    )
