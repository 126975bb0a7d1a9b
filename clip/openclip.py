"""Models of open_clip's registry whose towers are OpenAI's: "ViT-B-16:laion2b_s34b_b88k".

Such models have OpenAI's module names, so that finding the file and the activation is all there is
to do. https://github.com/mlfoundations/open_clip
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .errors import WeightsError, nearest
from .model import HEAD_WIDTH, infer_sizes
from .openai import MEAN, STD

# Settings that leave the structure of build_model's CLIP; any other setting changes it.
_MODEL = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}
_VISION = {"image_size", "layers", "width", "patch_size", "patch_dropout"}
_VISION |= {"head_width", "mlp_ratio"}  # if they have OpenAI's values
_TEXT = {"context_length", "vocab_size", "width", "heads", "layers"}
_VOCAB_SIZE = 49408  # of the one tokenizer that clip.tokenize has


class Entry(NamedTuple):
    """A file of weights, what its tensors do not tell, and its architecture by open_clip."""

    path: str
    quick_gelu: bool
    config: dict[str, Any]
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD


def find(name: str) -> Entry:
    """The file of "ARCHITECTURE:TAG", downloaded if need be, and the settings it belongs to.

    TAG is one of the registry's, or the path of a file of weights of that architecture.

    Raises:
        WeightsError: there is no such model, its towers differ, or the download failed.
    """
    import open_clip  # takes seconds, and most runs do not need it

    architecture, _, tag = name.partition(":")
    config = open_clip.get_model_config(architecture)
    if config is None:
        configs = {each: open_clip.get_model_config(each) for each in open_clip.list_models()}
        known = [each for each, its in configs.items() if not differences(its)]
        raise WeightsError(
            f"open_clip has no architecture {architecture!r}; {nearest(architecture, known)}"
        )
    if different := differences(config):
        raise WeightsError(
            f"{name}: these towers are not OpenAI's, and cannot be used here: {different}"
        )
    if Path(tag).expanduser().is_file():
        return Entry(str(Path(tag).expanduser()), config.get("quick_gelu", False), config)
    if not open_clip.is_pretrained_cfg(architecture, tag):
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise WeightsError(
            f"open_clip has no weights {tag!r} of {architecture}, nor is there such a file;"
            f" {nearest(tag, tags)}"
        )
    pretrained = open_clip.get_pretrained_cfg(architecture, tag)
    try:
        path = open_clip.download_pretrained(pretrained)
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"cannot download {name}: {error}") from error
    # What the weights were trained with; the architecture's own setting may differ from it.
    quick_gelu = pretrained.get("quick_gelu", False)
    return Entry(path, quick_gelu, config, tuple(pretrained["mean"]), tuple(pretrained["std"]))


def check_sizes(weights: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> None:
    """Refuse weights of another architecture than ``config``, open_clip's of a model.

    The size of the images may differ: it is a choice of the training.

    Raises:
        WeightsError: it names the first size that differs.
    """
    vision, text = config["vision_cfg"], config["text_cfg"]
    found = infer_sizes(weights)
    for name, what, named in (
        ("embed_dim", "common width", config["embed_dim"]),
        ("vision_width", "vision width", vision["width"]),
        ("vision_layers", "vision layers", vision["layers"]),
        ("vision_patch_size", "patch size", vision["patch_size"]),
        ("transformer_width", "text width", text["width"]),
        ("transformer_layers", "text layers", text["layers"]),
    ):
        if found[name] != named:
            raise WeightsError(
                f"these weights are of another architecture: {what} {found[name]} instead of"
                f" {named}"
            )


def differences(config: dict[str, Any]) -> str:
    """What in an open_clip model's config departs from OpenAI's structure; "" if nothing does."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    found = sorted({*config} - _MODEL | {*vision} - _VISION | {*text} - _TEXT)
    if found:
        return ", ".join(found)
    if vision.get("head_width", HEAD_WIDTH) != HEAD_WIDTH:
        found.append(f"head_width {vision['head_width']} instead of {HEAD_WIDTH}")
    if vision.get("mlp_ratio", 4.0) != 4.0:
        found.append(f"mlp_ratio {vision['mlp_ratio']} instead of 4")
    if text["heads"] * HEAD_WIDTH != text["width"]:
        found.append(f"{text['heads']} text heads for a width of {text['width']}")
    if text["vocab_size"] != _VOCAB_SIZE:
        found.append(f"a vocabulary of {text['vocab_size']} instead of {_VOCAB_SIZE}")
    return ", ".join(found)
