"""One ONNX graph from a batch of images to logits, compared with PyTorch before it is written."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import onnxscript  # noqa: F401  # torch.onnx needs it; a missing package is named before the work
import torch
from torch import Tensor, nn

from dassl.utils import UsageError, atomic_path, read_image

from .formats import Written, image_settings, require_matrix
from .sample_images import draw

FILE = "model.onnx"
# Largest difference of logits, relative to the largest logit: float32 sums in another order. A
# wrong graph (a missing prompt, another activation) differs by more than 1e-2.
TOLERANCE = 1e-4

USAGE = """\
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

export = json.load(open("export.json"))
size, mean, std = (export["image"][key] for key in ("size", "mean", "std"))
image = ImageOps.fit(Image.open("photo.jpg").convert("RGB"), size, Image.Resampling.{resampling})
pixels = (np.asarray(image, np.float32) / 255 - np.float32(mean)) / np.float32(std)
session = onnxruntime.InferenceSession("model.onnx")
(logits,) = session.run(None, {{"image": pixels.transpose(2, 0, 1)[None]}})
print(export["classes"][logits[0].argmax()])
"""


class ImageToLogits(nn.Module):
    """A classifier's model with its text features as a constant."""

    text: Tensor

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.model = classifier.model
        self.register_buffer("text", classifier.text_features)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, C) of images (B, 3, H, W)."""
        return self.model(image, self.text)


def build_graph(classifier: Any) -> bytes:
    """Return the serialized graph; the size of the batch is free."""
    side = classifier.model.learner.clip_model.visual.input_resolution
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about its own future
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program: Any = torch.onnx.export(
            ImageToLogits(classifier).eval(),
            (torch.zeros(2, 3, side, side),),
            dynamo=True,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1)}},
            verbose=False,
        )
    return program.model_proto.SerializeToString()


def largest_difference(graph: bytes, classifier: Any, batch: Tensor) -> float:
    """Return the largest difference of logits of images (B, 3, H, W), relative to the largest one.

    The graph runs on the whole batch and on the first image alone.
    """
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    expected = classifier.logits(batch).numpy()
    worst = 0.0
    for rows in (slice(None), slice(0, 1)):
        found = session.run(None, {"image": batch[rows].numpy()})[0]
        if found.shape != expected[rows].shape:
            return float("inf")
        worst = max(worst, float(np.abs(found - expected[rows]).max()))
    return worst / float(np.abs(expected).max())


def write(classifier: Any, folder: Path, images: Sequence[str]) -> Written:
    """Write model.onnx if onnxruntime computes PyTorch's logits of ``images`` (or drawn ones).

    Raises UsageError for a method with text features per image, and if the logits differ.
    """
    require_matrix(classifier, "onnx")
    # Read before the graph is built, which takes seconds: an image may be missing or broken.
    loaded = [read_image(path) for path in images] or draw(classifier)
    batch = torch.stack([classifier.transform(image) for image in loaded])
    graph = build_graph(classifier)
    difference = largest_difference(graph, classifier, batch)
    if not difference <= TOLERANCE:
        raise UsageError(
            f"nothing was written: the logits of the ONNX graph differ from PyTorch's by "
            f"{difference:.1e} of the largest, more than {TOLERANCE:.0e}: use other versions of "
            "torch and onnxscript (docs/inference.md has those that were tested), or another format"
        )
    with atomic_path(folder / FILE) as path:
        path.write_bytes(graph)
    side = classifier.model.learner.clip_model.visual.input_resolution
    shapes = f"`image` (batch, 3, {side}, {side}) -> `logits` (batch, {len(classifier.classnames)})"
    resampling = image_settings(classifier)["interpolation"].upper()
    notes = [
        f"onnxruntime {onnxruntime.__version__} computed PyTorch's logits to {difference:.1e} of "
        f"the largest on {len(images) or 'drawn'} images before the file was written.",
        "`ImageOps.fit` equals the transform of the run for square images; for others the crop "
        "may differ by a pixel (torchvision: resize the smaller edge, then crop the center).",
    ]
    files = {FILE: f"{shapes}, float32; the text features are part of it"}
    return Written("onnx", files, USAGE.format(resampling=resampling), notes)
