"""Models of open_clip's registry with OpenAI's architecture, such as "ViT-B-16:laion2b_s34b_b88k".

They share OpenAI's module names, so only the file and the activation have to be found.
https://github.com/mlfoundations/open_clip
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .errors import WeightsError, nearest
from .model import HEAD_WIDTH, infer_sizes
from .openai import MEAN, STD

# Settings that do not change the structure of build_model's CLIP; any other setting does.
_MODEL = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}
_VISION = {"image_size", "layers", "width", "patch_size", "patch_dropout"}
_VISION |= {"head_width", "mlp_ratio"}  # the last if it has OpenAI's value
_TEXT = {"context_length", "vocab_size", "width", "heads", "layers"}
_VOCAB_SIZE = 49408  # of clip.tokenize


class Entry(NamedTuple):
    """A weights file, the settings that its shapes do not determine, and open_clip's config."""

    path: str
    quick_gelu: bool
    config: dict[str, Any]
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    @property
    def heads(self) -> tuple[int, int] | None:
        """The attention heads of the image and of the text encoder; None for a ResNet."""
        vision, text = self.config["vision_cfg"], self.config["text_cfg"]
        if not isinstance(vision["layers"], int):
            return None
        return vision["width"] // vision.get("head_width", HEAD_WIDTH), text["heads"]


def find(name: str) -> Entry:
    """Return the entry of "ARCHITECTURE:TAG"; download its file if needed.

    TAG is one of the registry's, or the path of a weights file of that architecture.

    Raises:
        WeightsError: the model is unknown or not of OpenAI's architecture, or a download failed.
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
        raise WeightsError(f"{name} cannot be used: it differs from OpenAI's CLIP in {different}")
    path = Path(tag).expanduser()
    if path.is_file():
        return Entry(str(path), config.get("quick_gelu", False), config)
    if not open_clip.is_pretrained_cfg(architecture, tag):
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise WeightsError(
            f"open_clip has no weights {tag!r} of {architecture}, nor is there such a file;"
            f" {nearest(tag, tags)}"
        )
    pretrained = open_clip.get_pretrained_cfg(architecture, tag)
    try:
        downloaded = open_clip.download_pretrained(pretrained)
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"cannot download {name}: {error}") from error
    # The activation of the weights; the architecture's default may differ.
    quick_gelu = pretrained.get("quick_gelu", False)
    return Entry(
        downloaded, quick_gelu, config, tuple(pretrained["mean"]), tuple(pretrained["std"])
    )


def check_sizes(weights: Mapping[str, torch.Tensor], entry: Entry) -> None:
    """Raise a WeightsError if the weights do not have the architecture of an open_clip entry.

    The image size may differ, since a training may choose another one.
    """
    config = entry.config
    vision, text = config["vision_cfg"], config["text_cfg"]
    found = infer_sizes(weights, heads=(1, 1))  # those of the entry fit its own widths only
    for key, label, expected in (
        ("embed_dim", "embedding width", config["embed_dim"]),
        ("vision_width", "vision width", vision["width"]),
        ("vision_layers", "vision layers", vision["layers"]),
        ("vision_patch_size", "patch size", vision["patch_size"]),
        ("transformer_width", "text width", text["width"]),
        ("transformer_layers", "text layers", text["layers"]),
    ):
        if found[key] != expected:
            raise WeightsError(
                f"the weights are of another architecture: {label} {found[key]} instead of"
                f" {expected}"
            )


def differences(config: dict[str, Any]) -> str:
    """List where an open_clip config departs from OpenAI's architecture; "" if nowhere."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    found = sorted({*config} - _MODEL | {*vision} - _VISION | {*text} - _TEXT)
    if found:
        return ", ".join(found)
    if vision.get("mlp_ratio", 4.0) != 4.0:
        found.append(f"mlp_ratio {vision['mlp_ratio']} instead of 4")
    if text["vocab_size"] != _VOCAB_SIZE:
        found.append(f"a vocabulary of {text['vocab_size']} instead of {_VOCAB_SIZE}")
    return ", ".join(found)
