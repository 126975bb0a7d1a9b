"""Bring the tensors of other CLIP files into OpenAI's layout: names, prefixes and transposes.

open_clip and Hugging Face's transformers train the same architecture under other names. What a
file's tensors do not determine, heads and activation, is in the config.json beside Hugging Face's.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from msgspec import Meta

from dassl.utils.schema import Record, read_checked

from .errors import WeightsError

Tensors = dict[str, torch.Tensor]

CONFIG = "config.json"
# Added by DataParallel, torch.compile, Lightning and models that contain a CLIP.
_PREFIXES = ("module.", "_orig_mod.", "model.", "clip_model.", "clip.")
# Constant buffers that files of older versions contain.
_BUFFERS = ("attn_mask", "position_ids")
_FIRST = re.compile(r"(?:^|\.)(visual|vision_model|transformer|text|text_model)\.")

_HF_TOWERS = {"vision_model.": "visual.", "text_model.": ""}
_HF_NAMES = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "logit_scale": "logit_scale",
}
_HF_NORMS = {
    "vision_model.pre_layrnorm": "visual.ln_pre",  # misspelled in transformers
    "vision_model.post_layernorm": "visual.ln_post",
    "text_model.final_layer_norm": "ln_final",
}
_HF_NAMES |= {f"{a}.{k}": f"{b}.{k}" for a, b in _HF_NORMS.items() for k in ("weight", "bias")}
_HF_TRANSPOSED = {
    "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text_projection",
}
_HF_BLOCK = re.compile(
    r"(vision_model\.|text_model\.)encoder\.layers\.(\d+)\."
    r"(layer_norm[12]|mlp\.fc[12]|self_attn\.out_proj|self_attn\.[qkv]_proj)\.(weight|bias)"
)
_BLOCK_NAMES = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")

Heads = Annotated[int, Meta(ge=1, le=1024)]


class _Text(Record):
    """Settings of the text encoder, with the defaults of transformers."""

    hidden_act: str = "quick_gelu"
    num_attention_heads: Heads = 8
    layer_norm_eps: float = 1e-5


class _Vision(Record):
    """Settings of the image encoder, with the defaults of transformers."""

    hidden_act: str = "quick_gelu"
    num_attention_heads: Heads = 12
    layer_norm_eps: float = 1e-5


class _Config(Record):
    """What is read of config.json."""

    model_type: str = "clip"
    projection_dim: int = 512
    text_config: _Text | None = None
    vision_config: _Vision | None = None


class Settings(NamedTuple):
    """What the tensors do not determine; None is not stated in the file."""

    quick_gelu: bool | None = None
    heads: tuple[int, int] | None = None  # of the image and of the text encoder
    assumed: bool = False  # whether a config.json that belongs to the layout is missing


def to_openai(tensors: Tensors, path: Path) -> tuple[Tensors, Settings]:
    """Return the weights in the file ``path`` by OpenAI's names, and the settings stated with them.

    Prefixes that all names have are removed, and constant buffers left out with a printed line.

    Raises:
        WeightsError: the layout is another one; the message names it.
    """
    named = _without_prefixes(tensors)
    named = _without_buffers(named, path)
    if "logit_bias" in named:
        raise WeightsError(
            f"{path}: it has a logit_bias, so it is a SigLIP, which is not CLIP's architecture: "
            "choose the weights of a CLIP"
        )
    if any(name.startswith(tuple(_HF_TOWERS)) for name in named):
        settings = _read_config(path.parent / CONFIG, named)
        return _from_hugging_face(named, path), settings
    if any(name.startswith("text.") for name in named):
        named = _from_custom_text(named, path)
    _check_towers(named, path)
    return named, Settings()


def _without_prefixes(tensors: Tensors) -> Tensors:
    names = list(tensors)
    prefix = ""
    while names:
        found = next((p for p in _PREFIXES if all(n.startswith(prefix + p) for n in names)), None)
        if found is None:
            break
        prefix += found
    return {name[len(prefix) :]: value for name, value in tensors.items()}


def _without_buffers(tensors: Tensors, path: Path) -> Tensors:
    left_out = [name for name in tensors if name.rpartition(".")[2] in _BUFFERS]
    if left_out:
        more = f" and {len(left_out) - 1} more" if left_out[1:] else ""
        print(f"CLIP weights: left out {left_out[0]}{more} of {path}: constants, not weights")
    return {name: value for name, value in tensors.items() if name not in left_out}


def _check_towers(tensors: Tensors, path: Path) -> None:
    """Raise a WeightsError that names what a file without both encoders has instead."""
    image = any(name.startswith("visual.") for name in tensors)
    text = any(name.startswith("transformer.") for name in tensors)
    if image and text:
        return
    if image or text:
        has, lacks = ("image", "text") if image else ("text", "image")
        raise WeightsError(
            f"{path}: it has only the {has} encoder of a CLIP, without the {lacks} encoder: choose "
            "a file with the whole model"
        )
    for name in tensors:
        inner = _FIRST.search(name)
        if inner and inner.start(1):
            prefix = name[: inner.start(1)]
            raise WeightsError(
                f"{path}: its names begin with {prefix!r}, such as {name!r}, which is not one of "
                f"the known prefixes ({', '.join(_PREFIXES)}): save the weights without it"
            )


def _from_custom_text(tensors: Tensors, path: Path) -> Tensors:
    """Return open_clip's CustomTextCLIP, with its text encoder under "text.", by OpenAI's names."""
    result = {}
    for name, value in tensors.items():
        own = name.removeprefix("text.")
        if own in result or (own != name and own in tensors):
            raise WeightsError(f"{path}: it has both {name!r} and {own!r}: which is meant?")
        result[own] = value
    if not any(name.startswith("transformer.resblocks.") for name in result):
        raise WeightsError(
            f"{path}: its text encoder is not CLIP's transformer (text.transformer.resblocks): "
            "choose weights of OpenAI's architecture"
        )
    return result


def _read_config(path: Path, tensors: Mapping[str, torch.Tensor]) -> Settings:
    """Return the settings in Hugging Face's config.json beside a file, if there is one."""
    if not path.is_file():
        return Settings(assumed=True)
    config = read_checked(path, _Config, "get the file again, or remove it", 2**20)
    text, vision = config.text_config or _Text(), config.vision_config or _Vision()
    activations = {"quick_gelu": True, "gelu": False}
    if config.model_type != "clip":
        raise WeightsError(
            f"{path} describes a {config.model_type!r:.80}, not a 'clip': choose the weights of a "
            "CLIP"
        )
    if text.hidden_act != vision.hidden_act or text.hidden_act not in activations:
        raise WeightsError(
            f"{path} states the activations {vision.hidden_act!r:.80} (image) and "
            f"{text.hidden_act!r:.80} (text), but both must be 'quick_gelu', or both 'gelu'"
        )
    if {text.layer_norm_eps, vision.layer_norm_eps} != {1e-5}:
        raise WeightsError(f"{path} states a layer_norm_eps other than 1e-05, which is CLIP's")
    width = tensors.get("text_projection.weight")
    if width is not None and width.dim() and len(width) != config.projection_dim:
        raise WeightsError(
            f"{path} states a projection_dim of {config.projection_dim}, but the weights have "
            f"{len(width)}: it belongs to other weights"
        )
    heads = vision.num_attention_heads, text.num_attention_heads
    return Settings(activations[text.hidden_act], heads)


def _from_hugging_face(tensors: Tensors, path: Path) -> Tensors:
    result: Tensors = {}
    joined: dict[tuple[str, str], dict[str, torch.Tensor]] = {}
    unknown = []
    for name, value in tensors.items():
        if name in _HF_NAMES:
            result[_HF_NAMES[name]] = value
        elif name in _HF_TRANSPOSED:
            result[_HF_TRANSPOSED[name]] = _matrix(name, value, path).t().contiguous()
        elif match := _HF_BLOCK.fullmatch(name):
            tower, number, part, kind = match.groups()
            block = f"{_HF_TOWERS[tower]}transformer.resblocks.{number}"
            if part in _QKV:
                joined.setdefault((block, kind), {})[part] = value
            else:
                result[f"{block}.{_BLOCK_NAMES[part]}.{kind}"] = value
        else:
            unknown.append(name)
    if unknown:
        raise WeightsError(
            f"{path}: it has {_some(unknown)}, which transformers' CLIPModel does not have: choose "
            "the weights of a CLIPModel"
        )
    for (block, kind), parts in joined.items():
        shapes = {part: parts[part].shape for part in _QKV if part in parts}
        if len(shapes) < len(_QKV) or len(set(shapes.values())) > 1 or not all(shapes.values()):
            raise WeightsError(
                f"{path}: q_proj.{kind}, k_proj.{kind} and v_proj.{kind} of {block} do not fit "
                "together: get the file again"
            )
        result[f"{block}.attn.in_proj_{kind}"] = torch.cat([parts[part] for part in _QKV])
    missing = [name for name in (*_HF_NAMES, *_HF_TRANSPOSED) if name not in tensors]
    if missing:
        raise WeightsError(
            f"{path}: it lacks {_some(missing)} of transformers' CLIPModel: choose a file with the "
            "whole model"
        )
    return result


def _matrix(name: str, value: torch.Tensor, path: Path) -> torch.Tensor:
    if value.dim() != 2:
        raise WeightsError(f"{path}: {name} is {tuple(value.shape)} instead of a matrix")
    return value


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
