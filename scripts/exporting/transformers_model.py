"""A folder that transformers loads: the frozen image encoder, and the trained matrix."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from clip.model import HEAD_WIDTH, infer_sizes
from dassl.utils import UsageError, atomic_path, write_json
from trainers.encode import is_vision_transformer

from .formats import Written, image_settings, require_matrix, require_plain_image_encoder
from .matrix import FILE as HEAD
from .matrix import head_notes, write_head
from .open_clip_model import uses_quick_gelu

FILE, CONFIG, PROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"
RESAMPLING = {"nearest": 0, "bilinear": 2, "bicubic": 3}  # of PIL

USAGE = """\
import json

import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

model = CLIPVisionModelWithProjection.from_pretrained(".")
processor, head = CLIPImageProcessor.from_pretrained("."), load_file("classifier.safetensors")
pixels = processor(images=Image.open("photo.jpg").convert("RGB"), return_tensors="pt")
features = F.normalize(model(**pixels).image_embeds, dim=-1)
logits = head["logit_scale"] * features @ head["text_features"].T
print(json.load(open("export.json"))["classes"][logits[0].argmax()])
"""


def renamed(visual: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of OpenAI's vision transformer by the names of transformers."""
    names = {
        "class_embedding": "embeddings.class_embedding",
        "conv1.weight": "embeddings.patch_embedding.weight",
        "positional_embedding": "embeddings.position_embedding.weight",
    }
    for kind in ("weight", "bias"):
        names[f"ln_pre.{kind}"] = f"pre_layrnorm.{kind}"
        names[f"ln_post.{kind}"] = f"post_layernorm.{kind}"
    parts = {
        "attn.out_proj": "self_attn.out_proj",
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    found: dict[str, Tensor] = {"visual_projection.weight": visual["proj"].T}
    for key, value in visual.items():
        if key in names:
            found[f"vision_model.{names[key]}"] = value
        elif key.startswith("transformer.resblocks."):
            number, _, rest = key.removeprefix("transformer.resblocks.").partition(".")
            layer = f"vision_model.encoder.layers.{number}."
            part, _, kind = rest.rpartition(".")
            if part == "attn":  # in_proj_weight, in_proj_bias: queries, keys and values
                kind = kind.removeprefix("in_proj_")
                for letter, third in zip("qkv", value.chunk(3), strict=True):
                    found[f"{layer}self_attn.{letter}_proj.{kind}"] = third
            else:
                found[f"{layer}{parts[part]}.{kind}"] = value
    return {key: value.detach().clone().contiguous() for key, value in found.items()}


def build(clip_model: Any) -> CLIPVisionModelWithProjection:
    """Return the image encoder of a CLIP as a model of transformers, in eval mode."""
    sizes = infer_sizes(clip_model.state_dict())
    width = sizes["vision_width"]
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=sizes["embed_dim"],
        num_hidden_layers=sizes["vision_layers"],
        num_attention_heads=width // HEAD_WIDTH,
        image_size=sizes["image_resolution"],
        patch_size=sizes["vision_patch_size"],
        hidden_act="quick_gelu" if uses_quick_gelu(clip_model) else "gelu",
        layer_norm_eps=clip_model.visual.ln_post.eps,
        architectures=["CLIPVisionModelWithProjection"],
    )
    with torch.random.fork_rng(devices=[]):
        model = CLIPVisionModelWithProjection(config)
    model.load_state_dict(renamed(clip_model.visual.state_dict()))
    return model.eval()


def write(classifier: Any, folder: Path, images: Sequence[str]) -> Written:
    """Write image encoder, image processor and matrix; ``images`` are not needed.

    Raises UsageError for a ResNet, which transformers' CLIP does not have.
    """
    require_matrix(classifier, "transformers")
    require_plain_image_encoder(classifier, "transformers")
    clip_model, image = classifier.model.learner.clip_model, image_settings(classifier)
    if not is_vision_transformer(clip_model.visual):
        raise UsageError(
            f"--to transformers needs a vision transformer, but {classifier.backbone} is a ResNet: "
            "use --to open_clip or --to onnx"
        )
    model = build(clip_model)
    # Not save_pretrained, whose errors on a full disk are not OSErrors.
    with atomic_path(folder / FILE) as path:
        path.write_bytes(save(model.state_dict(), metadata={"format": "pt"}))
    with atomic_path(folder / CONFIG) as path:
        path.write_text(model.config.to_json_string(), encoding="utf-8")
    height, width = image["size"]
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": max(height, width)},
        "resample": RESAMPLING[image["interpolation"]],
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": image["mean"],
        "image_std": image["std"],
        "do_convert_rgb": True,
    }
    write_json(processor, folder / PROCESSOR)
    write_head(classifier, folder)
    files = {
        FILE: f"the image encoder of the frozen CLIP {classifier.backbone}, float32",
        CONFIG: "transformers' config (CLIPVisionModelWithProjection)",
        PROCESSOR: "the image transform of the run (CLIPImageProcessor)",
        HEAD: "`text_features` (the trained classifier matrix) and `logit_scale`",
    }
    return Written("transformers", files, USAGE, head_notes(classifier))
