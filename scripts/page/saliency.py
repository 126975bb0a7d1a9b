"""Saliency: the attention of the CLS token over the patches, on a few test images."""

from typing import Any

import numpy as np
import torch

from scripts.probing.run import Run, spread
from scripts.probing.scoring import Scores
from trainers.encode import is_vision_transformer
from trainers.losses import TOPK

from .section import Section, omitted
from .thumbnails import data_uri, outlined, overlay, patch_box, pixels, tensor_of

__all__ = ["examples", "saliency"]

EXAMPLES = 4  # of correct and of wrong predictions
SIDE = 144


def examples(labels: np.ndarray, predicted: np.ndarray, count: int = EXAMPLES) -> list[int]:
    """Return the numbers of ``count`` correct images and as many wrong ones, evenly distributed."""
    right = np.flatnonzero(labels == predicted).tolist()
    wrong = np.flatnonzero(labels != predicted).tolist()
    return [*spread(right, count), *spread(wrong, count)]


def saliency(run: Run, scores: Scores) -> Section:
    """Return the saliency of sample images and their patches with the largest values."""
    model = run.classifier.model
    visual = model.learner.clip_model.visual
    if not is_vision_transformer(visual):
        return omitted(
            f"The image encoder of {run.classifier.backbone} is a ResNet, which has no attention "
            "of a CLS token over patches."
        )
    chosen = examples(scores.labels, scores.predicted)
    images = [tensor_of(run, scores.paths[i]) for i in chosen]
    tokens: Any = run.classifier.encode_image(torch.stack(images), local=True)
    patches = tokens.saliency.shape[1]
    topk = min(model.settings.topk if model.settings else TOPK, patches)
    confidence = scores.probabilities.max(axis=1)
    rows: list[dict[str, Any]] = []
    pictures: list[dict[str, str]] = []
    for i, image, values in zip(chosen, images, tokens.saliency, strict=True):
        top = values.topk(topk)
        rows.append(
            {
                "path": scores.paths[i],
                "class": run.classes[int(scores.labels[i])],
                "predicted": run.classes[int(scores.predicted[i])],
                "confidence": float(confidence[i]),
                "correct": bool(scores.labels[i] == scores.predicted[i]),
                "patches": top.indices.tolist(),
                "attention": top.values.tolist(),
                "top_share": float(top.values.sum() / values.sum()),
            }
        )
        picture = pixels(run, image)
        grid = round(patches**0.5)
        heat = overlay(picture, values.reshape(grid, grid).numpy())
        boxes = [patch_box(index, patches, picture.width) for index in rows[-1]["patches"]]
        pictures.append(
            {
                "image": data_uri(picture, SIDE),
                "heat": data_uri(outlined(heat, boxes), SIDE),
            }
        )
    return Section(
        numbers={
            "images": rows,
            "topk": topk,
            "patches": patches,
            "trained_on": bool(model.settings and model.settings.local_weight > 0),
        },
        pictures={"images": pictures},
    )
