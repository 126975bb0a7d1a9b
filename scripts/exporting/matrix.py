"""The classifier matrix alone: text features (C, d), logit scale and class names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import tensor

from dassl.utils import atomic_path

from .formats import Written, require_matrix, require_plain_features

FILE = "classifier.safetensors"

USAGE = """\
import json

import torch
from safetensors.torch import load_file

head = load_file("classifier.safetensors")
classes = json.load(open("export.json"))["classes"]
features = torch.randn(1, {dim})  # replace it by the image encoder's features (B, {dim})
features = torch.nn.functional.normalize(features, dim=-1)
logits = head["logit_scale"] * features @ head["text_features"].T
print(classes[logits[0].argmax()])
"""


def write_head(classifier: Any, folder: Path) -> None:
    """Write classifier.safetensors: text_features (C, d) and logit_scale ()."""
    tensors = {
        "text_features": classifier.text_features.contiguous(),
        "logit_scale": tensor(classifier.logit_scale),
    }
    # Not save_file, whose errors on a full disk are not OSErrors.
    with atomic_path(folder / FILE) as path:
        path.write_bytes(save(tensors, metadata={"format": "pt"}))


def head_notes(classifier: Any) -> list[str]:
    """Return what a user of the matrix must know."""
    notes = ["Image features are L2-normalized before the product with `text_features`."]
    settings = classifier.model.settings
    if settings is not None and not settings.renormalize:
        notes.append(
            "`text_features` are TextRefiner's T' = T + alpha W [T ; R(T)], which are **not "
            "normalized**: their lengths are part of the classifier, so do not normalize them."
        )
    return notes


def write(classifier: Any, folder: Path, images: Sequence[str]) -> Written:
    """Write the matrix; ``images`` are not needed."""
    require_matrix(classifier, "matrix")
    require_plain_features(classifier, "matrix")
    write_head(classifier, folder)
    notes = head_notes(classifier)
    if not classifier.model.learner.frozen_image_encoder:
        notes.append(
            f"The image features must be those of this {classifier.method}, whose image encoder "
            "has learned visual prompts: export it with `--to onnx`, or use "
            "`trainers.classifier.load(run).encode_image`."
        )
    classes, dim = classifier.text_features.shape
    files = {FILE: f"`text_features` ({classes} x {dim}) and `logit_scale`, float32"}
    return Written("", files, USAGE.format(dim=dim), notes)
