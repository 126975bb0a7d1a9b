"""A folder that open_clip loads ("local-dir:"): the frozen CLIP, and the trained matrix."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from clip.model import HEAD_WIDTH, QuickGELU, infer_sizes
from dassl.utils import atomic_path, write_json

from .formats import Written, image_settings, require_matrix, require_plain_image_encoder
from .matrix import FILE as HEAD
from .matrix import head_notes, write_head

FILE, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"

USAGE = """\
import json

import open_clip
from PIL import Image
from safetensors.torch import load_file

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:.")
model.eval()
head = load_file("classifier.safetensors")
features = model.encode_image(preprocess(Image.open("photo.jpg"))[None], normalize=True)
logits = head["logit_scale"] * features @ head["text_features"].T
print(json.load(open("export.json"))["classes"][logits[0].argmax()])
"""


def model_config(state: Mapping[str, Tensor], quick_gelu: bool) -> dict[str, Any]:
    """Return open_clip's model_cfg for weights in OpenAI's layout."""
    sizes = infer_sizes(state)
    vision = {
        "image_size": sizes["image_resolution"],
        "layers": sizes["vision_layers"],  # four numbers for a ResNet
        "width": sizes["vision_width"],
        "patch_size": sizes["vision_patch_size"],
        "head_width": HEAD_WIDTH,
    }
    text = {
        "context_length": sizes["context_length"],
        "vocab_size": sizes["vocab_size"],
        "width": sizes["transformer_width"],
        "heads": sizes["transformer_heads"],
        "layers": sizes["transformer_layers"],
    }
    return {
        "embed_dim": sizes["embed_dim"],
        "quick_gelu": quick_gelu,
        "vision_cfg": vision,
        "text_cfg": text,
    }


def uses_quick_gelu(clip_model: Any) -> bool:
    """Return whether a CLIP's transformers use QuickGELU, else it is GELU."""
    return isinstance(clip_model.transformer.resblocks[0].mlp.gelu, QuickGELU)


def write(classifier: Any, folder: Path, images: Sequence[str]) -> Written:
    """Write weights, config and matrix; ``images`` are not needed."""
    require_matrix(classifier, "open_clip")
    require_plain_image_encoder(classifier, "open_clip")
    clip_model, image = classifier.model.learner.clip_model, image_settings(classifier)
    state = {key: value.detach().contiguous() for key, value in clip_model.state_dict().items()}
    with atomic_path(folder / FILE) as path:
        path.write_bytes(save(state, metadata={"format": "pt"}))
    preprocess = {
        **{key: image[key] for key in ("mean", "std", "interpolation")},
        "resize_mode": "shortest",
    }
    config = {
        "model_cfg": model_config(state, uses_quick_gelu(clip_model)),
        "preprocess_cfg": preprocess,
    }
    write_json(config, folder / CONFIG)
    write_head(classifier, folder)
    files = {
        FILE: f"the frozen CLIP {classifier.backbone}, both encoders, float32",
        CONFIG: "open_clip's config of model and image transform",
        HEAD: "`text_features` (the trained classifier matrix) and `logit_scale`",
    }
    notes = [
        *head_notes(classifier),
        "`open_clip_torch>=3.0` loads the folder; on the Hub, the name is `hf-hub:USER/NAME`.",
        "The text encoder is the frozen one: the prompts that were learned are in the matrix only.",
    ]
    return Written("open_clip", files, USAGE, notes)
