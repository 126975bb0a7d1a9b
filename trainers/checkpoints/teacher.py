"""Load PromptKD's teacher, a CLIP with prompts trained by PromptSRC."""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from ..prompting.deep import IndependentPrompts, IndependentPromptsLearner
from ..settings import SettingsError, node
from .layouts import IMAGE_ENCODER, PROMPT_LEARNER, TEXT_ENCODER, VL_PROMPT_LEARNER
from .load import load_module, read_tensors
from .record import read_record

__all__ = ["check_classes", "load_teacher", "teacher_path", "text_features"]

MODALS = ("base2novel", "cross")
CONTEXT, VISUAL = f"{PROMPT_LEARNER}.ctx", f"{IMAGE_ENCODER}.VPT"


def teacher_path(cfg: CfgNode) -> str:
    """Return TRAINER.PROMPTKD.TEACHER_WEIGHTS, or the default path of PromptKD's public code."""
    given, cross = node(cfg, "PROMPTKD").TEACHER_WEIGHTS, cfg.TRAINER.get("MODAL") == "cross"
    if cross:
        public = f"teacher_model/ImageNet-xd/{VL_PROMPT_LEARNER}_large/model.pth.tar-20"
    else:
        public = f"teacher_model/{cfg.DATASET.NAME}/{VL_PROMPT_LEARNER}/model-best.pth.tar"
    path = given or public
    if not os.path.isfile(path):
        script = (
            "teacher_xd.sh SOURCE SEED (SOURCE: the dataset that it learns, imagenet in the papers)"
            if cross
            else "teacher.sh DATASET SEED"
        )
        raise SettingsError(
            f"there is no teacher at {path}: train one with scripts/promptsrc/{script} and set "
            f"TRAINER.PROMPTKD.TEACHER_WEIGHTS to its {VL_PROMPT_LEARNER}/model.pth.tar-20 (the "
            f"scripts do so automatically), or put PromptKD's published file at {public}"
            + (" and leave TEACHER_WEIGHTS out" if given else "")
        )
    return path


def check_classes(path: str, classnames: Collection[str], dataset: str) -> None:
    """Raise SettingsError if checkpoint.json shows that a teacher learned another dataset.

    In PromptKD's base2novel protocol the teacher is trained on base classes of the same dataset.
    """
    record = read_record(os.path.dirname(os.path.dirname(path)))
    learned = (record.classes if record else None) or []
    others = [name for name in learned if name not in classnames]
    if others:
        more = ", ..." if len(others) > 3 else ""
        raise SettingsError(
            f"the teacher in {path} was trained on {', '.join(others[:3])}{more}, which are not "
            f"classes of {dataset}: set TRAINER.PROMPTKD.TEACHER_WEIGHTS to a teacher of this "
            "dataset, or TRAINER.MODAL cross for a teacher of other classes"
        )


def load_teacher(
    clip_model: Any, classnames: Sequence[str], path: str, ctx_init: str
) -> IndependentPromptsLearner:
    """Return the frozen teacher for these classes, with the prompts in a file.

    ``path`` is a checkpoint of PromptSRC for ``clip_model``, ours or in the public layout, of these
    or other classes. Some of the initial words ``ctx_init`` may remain as fixed text after the
    context. Other files raise a `SettingsError`.
    """
    state = read_tensors(VL_PROMPT_LEARNER, path, clip_model, "TRAINER.PROMPTKD.TEACHER_NAME")
    context = state.get(CONTEXT)
    if context is None:
        raise SettingsError(
            f"{path} contains no {CONTEXT}: TRAINER.PROMPTKD.TEACHER_WEIGHTS must be a "
            f"checkpoint of PromptSRC, but this one contains {', '.join(sorted(state)[:5])}"
        )
    visual = state.get(VISUAL)
    if context.dim() != 2 or (visual is not None and visual.dim() != 2):
        raise SettingsError(
            f"{path} is not a checkpoint of PromptSRC: its prompts are no matrices (tokens, width)"
        )
    width = clip_model.ln_final.weight.shape[0]
    if context.shape[-1] != width:
        raise SettingsError(
            f"the teacher in {path} has prompts of width {context.shape[-1]}, but the text encoder "
            f"of its CLIP has width {width}: set TRAINER.PROMPTKD.TEACHER_NAME to the CLIP of its "
            "training"
        )
    deep = IndependentPrompts(clip_model, classnames, _sizes(state, ctx_init))
    load_module(VL_PROMPT_LEARNER, deep, state, path)
    return IndependentPromptsLearner(clip_model, deep.requires_grad_(False))


@torch.no_grad()
def text_features(
    teacher: IndependentPromptsLearner, classnames: Sequence[str], ctx_init: str
) -> Tensor:
    """Return a teacher's text features (C, d) for class names other than its own."""
    state, clip_model = teacher.deep.state_dict(), teacher.clip_model
    deep = IndependentPrompts(clip_model, classnames, _sizes(state, ctx_init))
    deep.load_state_dict(state)
    deep.to(teacher.deep.prompt_learner.ctx.device)
    return IndependentPromptsLearner(clip_model, deep).encode_text()


def _sizes(state: Mapping[str, Tensor], ctx_init: str) -> CfgNode:
    """Return the settings of prompts with the shapes in ``state``."""

    def blocks(encoder: str) -> int:
        return sum(key.startswith(f"{encoder}.transformer.resblocks.") for key in state)

    visual = state.get(VISUAL)
    return CfgNode(
        {
            "N_CTX_TEXT": state[CONTEXT].shape[0],
            "N_CTX_VISION": 1 if visual is None else visual.shape[0],
            "CTX_INIT": ctx_init,
            "PROMPT_DEPTH_TEXT": 1 + blocks(TEXT_ENCODER),
            "PROMPT_DEPTH_VISION": 0 if visual is None else 1 + blocks(IMAGE_ENCODER),
        }
    )
