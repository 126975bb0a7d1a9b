"""The public checkpoint layouts of this family: names of models, learned keys and CLIP weights.

Our checkpoints contain learned tensors only. Public files of TextRefiner, MaPLe, PromptSRC and
PromptKD contain the whole model: learned tensors, buffers derived from the class names, and CLIP's
weights. docs/checkpoints.md describes all layouts.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..learner import class_tokens
from ..refiner import FeatureAlignment, TextRefiner
from ..settings import SettingsError

__all__ = [
    "Content",
    "check_clip_names",
    "check_keys",
    "clip_name",
    "listed",
    "method_of",
    "read_content",
    "release_files",
]

# Registered models, each a folder of checkpoints, and the modules inside them.
PROMPT_LEARNER = "prompt_learner"
MULTI_MODAL = "MultiModalPromptLearner"
VL_PROMPT_LEARNER = "VLPromptLearner"
MEMORY = "Memory"  # the refiner
IMAGE_ENCODER, TEXT_ENCODER = "image_encoder", "text_encoder"
CLIP_ADAPTER = "clip_adapter"
PROJECTOR = "VPT_image_trans"  # PromptKD's
REPRESENTATION = "representation_learner"  # MMRL's
RESIDUALS, RESIDUAL_BASE = "text_feature_residuals", "base_text_features"  # TaskRes's
META_NET = ("linear1", "relu", "linear2")  # CoCoOp's and TCP's
ATTRIBUTE_TOKENS = "ctx_att"  # ATPrompt's learned tokens, followed by a number from 1
# Public files of KgCoOp contain these, which its code creates and does not use.
KGCOOP_UNUSED = ("bias_vectors", "meta_net.linear1.weight", "meta_net.linear1.bias")

# Model of a run -> the methods that register it. TextRefiner registers MEMORY as well.
METHODS = {
    PROMPT_LEARNER: ("CoOp", "CoCoOp"),
    MULTI_MODAL: ("MaPLe", "MMRL"),
    VL_PROMPT_LEARNER: ("PromptSRC", "PromptKD"),
    CLIP_ADAPTER: ("CLIPAdapter",),
}
RELEASED = {"TextRefinerCoOp": "COOP", "TextRefinerPromptKD": "PROMPTKD"}  # -> config node

# Buffers derived from the class names of the training run; PromptKD's code has separate ones for
# base and new classes.
CLASS_BUFFERS = (
    "token_prefix",
    "token_suffix",
    "token_prefix2",
    "token_suffix2",
    "tokenized_prompts",
    *("token_middle1", "token_middle2", "token_middle3"),  # ATPrompt's attributes
)
# Names of the release -> ours. Its alignment and projector are 1x1 convolutions and a BatchNorm.
EXTRACTOR = "extractor."
RELEASE_NAMES = {
    f"{module}.conv1.{index}.": f"{ours}.{layer}."
    for module, ours in (
        ("mid_image_trans", f"{MEMORY}.align"),
        (PROJECTOR, f"{VL_PROMPT_LEARNER}.{PROJECTOR}"),
    )
    for index, layer in ((0, "inner"), (1, "norm"), (3, "outer"))
} | {EXTRACTOR: f"{MEMORY}.aggregate."}
# Prefixes of CLIP weights in public files -> OpenAI's.
CLIP_PREFIXES = {
    f"{PROMPT_LEARNER}.ZS_image_encoder.": "visual.",  # PromptSRC's frozen copy
    f"{IMAGE_ENCODER}.": "visual.",
    f"{TEXT_ENCODER}.": "",
    "logit_scale": "logit_scale",
}
LISTED = 6  # names in a message
SECOND_HEAD = "proj_rep"  # MMRL's projection of the representation tokens
DEEP_PROMPTS = ("VPT", "VPT_shallow")  # learned parameters among the encoders' weights
LEARNED = (*DEEP_PROMPTS, SECOND_HEAD)

_BLOCK = r"resblocks\.\d+\.(attn\.(in_proj_|out_proj\.)|ln_[12]\.|mlp\.c_(fc|proj)\.)(weight|bias)"
_CLIP = re.compile(
    rf"(visual\.)?(transformer\.{_BLOCK}|positional_embedding)|logit_scale|text_projection"
    r"|token_embedding\.weight|ln_final\.(weight|bias)"
    r"|visual\.(class_embedding|proj|conv1\.weight|ln_(pre|post)\.(weight|bias))"
    r"|visual\.(conv[123]|bn[123]|layer\d\.\d+\..*|attnpool\..*)(\..*)?"  # a ResNet
)


class Content(NamedTuple):
    """The tensors of one checkpoint file."""

    learned: dict[str, Tensor]  # by our names, "<model>.<parameter>"
    clip: dict[str, Tensor]  # by the names in the file, which `clip_name` translates
    class_buffers: dict[str, Tensor]  # by their last name
    unused: dict[str, Tensor]  # by their names in the file; created, but neither used nor trained


def read_content(name: str, checkpoint: Mapping[str, Any]) -> Content:
    """Sort the tensors of a checkpoint of the model ``name``, in any public layout or ours."""
    content = Content({}, {}, {}, {})
    unused = _unused(checkpoint["state_dict"])
    for key, value in checkpoint["state_dict"].items():
        own, leaf = _own_name(name, key), _leaf(key)
        if key in unused:
            content.unused[key] = value
        elif own is None:
            content.clip[key] = value
        elif leaf in CLASS_BUFFERS:
            content.class_buffers[leaf] = value
        else:
            is_convolution = own.endswith(("inner.weight", "outer.weight")) and value.dim() == 4
            content.learned[own] = value.flatten(1) if is_convolution else value
    if "memory_item" in checkpoint:  # the release saves the cache beside the state dict
        content.learned[f"{name}.cache.entries"] = checkpoint["memory_item"].detach()
    return content


def _unused(state: Iterable[str]) -> Sequence[str]:
    """Return the keys of a public file that its code creates, but neither uses nor trains.

    ATPrompt has learned tokens for three attributes, and buffers for the attributes in use.
    """
    keys = set(state)
    if KGCOOP_UNUSED[0] in keys:
        return KGCOOP_UNUSED
    if "token_middle1" not in keys:
        return ()
    return [f"{ATTRIBUTE_TOKENS}{i}" for i in (2, 3) if f"token_middle{i}" not in keys]


def listed(keys: Iterable[str]) -> str:
    """Return names for a message: the first ones, and how many more there are."""
    names = list(keys)
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def clip_name(key: str) -> str:
    """Return OpenAI's name of a key of `Content.clip`."""
    old = next(prefix for prefix in CLIP_PREFIXES if key.startswith(prefix))
    return CLIP_PREFIXES[old] + key[len(old) :]


def check_clip_names(path: str, keys: Iterable[str]) -> None:
    """Raise SettingsError if ``keys`` of `Content.clip` contain other names than CLIP's."""
    unknown = [key for key in keys if not _CLIP.fullmatch(clip_name(key))]
    if unknown:
        raise SettingsError(f"{path} contains {listed(unknown)}, which CLIP does not have")


def _own_name(name: str, key: str) -> str | None:
    """Return our name "<model>.<parameter>" of a checkpoint's key, or None for CLIP's weights."""
    for old, new in RELEASE_NAMES.items():
        if key.startswith(old):
            return new + key[len(old) :]
    if key.startswith(tuple(CLIP_PREFIXES)) and _leaf(key) not in LEARNED:
        return None
    return key if key.startswith(f"{name}.") else f"{name}.{key}"


def _leaf(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def method_of(
    source: str,
    models: Iterable[str],
    learned: Mapping[str, Tensor],
    unused: Iterable[str] = (),
) -> str:
    """Return the trainer's name, from the models of a run and its tensors "<model>.<parameter>".

    ``unused`` are those of `Content.unused`. KgCoOp's files of ours equal CoOp's.
    """
    names, keys = set(models), list(learned)
    plain = names - {MEMORY}
    if len(plain) != 1 or not plain <= METHODS.keys():
        raise SettingsError(
            f"{source} contains {', '.join(sorted(names))}: expected one of {', '.join(METHODS)}, "
            f"and {MEMORY} if TextRefiner was trained"
        )
    if MEMORY not in names and any(key.startswith(f"{MEMORY}.") for key in keys):
        raise SettingsError(f"{source} is incomplete: TextRefiner's {MEMORY} is missing")
    method, *others = METHODS[plain.pop()]
    markers = (
        f"{PROMPT_LEARNER}.meta_net.",
        f"{MULTI_MODAL}.{REPRESENTATION}.",
        f"{VL_PROMPT_LEARNER}.{PROJECTOR}.",
    )
    if others and any(key.startswith(markers) for key in keys):
        method = others[0]
    if method == "CoOp" and KGCOOP_UNUSED[0] in unused:
        method = "KgCoOp"
    if f"{PROMPT_LEARNER}.{RESIDUALS}" in keys:
        method = "TaskRes"
    if method == "CoOp" and f"{PROMPT_LEARNER}.{ATTRIBUTE_TOKENS}1" in learned:
        method = "ATPrompt"
    if method == "CoCoOp" and _is_tcp(learned):
        method = "TCP"
    return f"TextRefiner{method}" if MEMORY in names else method


def _is_tcp(learned: Mapping[str, Tensor]) -> bool:
    """Return whether a meta_net from d is TCP's with d/4 hidden units, not CoCoOp's with d/16."""
    weight = learned.get(f"{PROMPT_LEARNER}.meta_net.{META_NET[0]}.weight")
    return weight is not None and weight.dim() == 2 and 8 * len(weight) > weight.shape[1]


def check_keys(path: str, method: str, learned: Mapping[str, Any]) -> None:
    """Raise SettingsError if learned keys "<model>.<parameter>" are missing or unexpected."""
    expected = set(_expected(method.removeprefix("TextRefiner"), list(learned)))
    if method.startswith("TextRefiner"):
        with torch.device("meta"):
            expected |= {f"{MEMORY}.{key}" for key in TextRefiner(1, 1).state_dict()}
    missing, unknown = sorted(expected - learned.keys()), sorted(learned.keys() - expected)
    if missing:
        raise SettingsError(f"{path} is an incomplete {method}: it lacks {listed(missing)}")
    if unknown:
        raise SettingsError(f"{path} contains {listed(unknown)}, which {method} does not have")


def _expected(method: str, keys: list[str]) -> Iterator[str]:
    """Yield the keys of a plain method; where depth is a setting, it is that of ``keys``."""

    def numbered(before: str, after: str, first: int) -> list[str]:
        count = sum(key.startswith(before) and key.endswith(after) for key in keys)
        return [f"{before}{number}{after}" for number in range(first, first + count)]

    kinds = ("weight", "bias")
    if method in (*METHODS[PROMPT_LEARNER], "KgCoOp", "TCP", "ATPrompt"):
        yield f"{PROMPT_LEARNER}.ctx"
        if method == "ATPrompt":
            yield from numbered(f"{PROMPT_LEARNER}.{ATTRIBUTE_TOKENS}", "", 1)
        if method in ("CoCoOp", "TCP"):
            layers = (META_NET[0], META_NET[-1])
            yield from (f"{PROMPT_LEARNER}.meta_net.{i}.{kind}" for i in layers for kind in kinds)
    elif method == "CLIPAdapter":
        yield from (f"{CLIP_ADAPTER}.fc.{layer}.weight" for layer in (0, 2))
    elif method == "TaskRes":
        yield from (f"{PROMPT_LEARNER}.{RESIDUAL_BASE}", f"{PROMPT_LEARNER}.{RESIDUALS}")
    elif method == "MaPLe":
        owner = f"{MULTI_MODAL}.{PROMPT_LEARNER}"
        texts = numbered(f"{owner}.compound_prompts_text.", "", 0)
        maps = [text.replace("prompts_text", "prompt_projections") for text in texts]
        yield from (f"{owner}.ctx", *texts)
        yield from (f"{name}.{kind}" for name in (f"{owner}.proj", *maps) for kind in kinds)
    elif method == "MMRL":
        tokens = f"{MULTI_MODAL}.{REPRESENTATION}.compound_rep_tokens"
        visual = numbered(f"{tokens}_r2vproj.", ".weight", 0)
        maps = [name.removesuffix(".weight") for name in visual]
        maps += [name.replace("_r2vproj", "_r2tproj") for name in maps]
        yield from (tokens, f"{MULTI_MODAL}.{IMAGE_ENCODER}.{SECOND_HEAD}")
        yield from (f"{name}.{kind}" for name in maps for kind in kinds)
    else:
        image, text = (f"{VL_PROMPT_LEARNER}.{part}." for part in (IMAGE_ENCODER, TEXT_ENCODER))
        block, leaf = "transformer.resblocks.", f".{DEEP_PROMPTS[1]}"
        if method == "PromptKD" or any(key.startswith(image) for key in keys):
            yield image + DEEP_PROMPTS[0]  # PromptSRC may have PROMPT_DEPTH_VISION 0
            yield from numbered(image + block, leaf, 1)
        if method == "PromptKD":
            with torch.device("meta"):
                projector = FeatureAlignment(1, 1).state_dict()
            yield from (f"{VL_PROMPT_LEARNER}.{PROJECTOR}.{key}" for key in projector)
        else:
            yield f"{VL_PROMPT_LEARNER}.{PROMPT_LEARNER}.ctx"
            yield from numbered(text + block, leaf, 1)
            if (optional := f"{VL_PROMPT_LEARNER}.aggregate") in keys:  # only our files contain it
                yield optional


def release_files(
    learned: Mapping[str, Tensor], clip_model: Any, context: str, classnames: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the release's files as {model: {"state_dict": ..., ["memory_item": ...]}}.

    The files contain the weights of ``clip_model``, which must have the precision of the run.
    PromptKD does not use the initial words ``context`` and the class names.
    """
    ctx = learned.get(f"{PROMPT_LEARNER}.ctx")
    owner = VL_PROMPT_LEARNER if ctx is None else PROMPT_LEARNER
    weights = clip_model.state_dict()
    state = {"logit_scale": weights["logit_scale"]}
    if ctx is not None:
        state[f"{PROMPT_LEARNER}.ctx"] = ctx
        with torch.no_grad():
            ids = class_tokens(clip_model, context, classnames).ids
            embeddings = clip_model.token_embedding(ids).to(clip_model.dtype)
        state |= {
            f"{PROMPT_LEARNER}.token_prefix": embeddings[:, :1].clone(),
            f"{PROMPT_LEARNER}.token_suffix": embeddings[:, 1 + ctx.shape[-2] :].clone(),
            f"{PROMPT_LEARNER}.tokenized_prompts": ids.long(),
        }
    for key, value in weights.items():
        if key.startswith("visual."):
            state[f"{IMAGE_ENCODER}.{key.removeprefix('visual.')}"] = value
        elif ctx is not None and key != "logit_scale":
            state[f"{TEXT_ENCODER}.{key}"] = value
    for key, value in learned.items():
        if key.startswith(f"{owner}.") and _leaf(key) in DEEP_PROMPTS:
            state[key.removeprefix(f"{owner}.")] = value
    memory: dict[str, Tensor] = {}
    for old, new in RELEASE_NAMES.items():
        target = memory if old == EXTRACTOR else state
        for key, value in learned.items():
            if key.startswith(new):
                is_linear = new.endswith(("inner.", "outer.")) and value.dim() == 2
                target[old + key[len(new) :]] = value[..., None, None] if is_linear else value
    return {
        owner: {"state_dict": state},
        MEMORY: {"memory_item": learned[f"{MEMORY}.cache.entries"], "state_dict": memory},
    }
