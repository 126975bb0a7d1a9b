"""The formats of an export by name, and what each of them returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from dassl.utils import UsageError

# name -> module in this folder; imported at use, because each needs other packages
MODULES = {
    "matrix": "matrix",
    "onnx": "onnx_model",
    "open_clip": "open_clip_model",
    "transformers": "transformers_model",
}
FORMATS = tuple(MODULES)


@dataclass(frozen=True)
class Written:
    """What a format wrote: facts for the model card.

    library: Hugging Face's name of the library that loads it; "" if there is none.
    files: name -> description.
    usage: Python code that is run in the folder.
    notes: sentences that a user must know.
    """

    library: str
    files: dict[str, str]
    usage: str
    notes: Sequence[str] = ()


def writer(name: str) -> Callable[[Any, Path, Sequence[str]], Written]:
    """Return the function (classifier, folder, image paths) -> `Written` of a format.

    Raises UsageError if a package that it needs is missing.
    """
    try:
        module = import_module(f".{MODULES[name]}", __package__)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("scripts", "trainers", "dassl"):
            raise
        raise UsageError(
            f"--to {name} needs the package {error.name}: pip install -r requirements-export.txt"
        ) from error
    return module.write


def require_matrix(classifier: Any, name: str) -> None:
    """Raise UsageError for a method with text features per image."""
    if classifier.text_per_image:
        raise UsageError(
            f"--to {name} needs one text feature per class, but those of {classifier.method} "
            "depend on the image: use scripts/predict.py, or export a model of another method"
        )


def require_plain_features(classifier: Any, name: str) -> None:
    """Raise UsageError for a method that classifies by more than the normalized pooled feature."""
    if not classifier.model.learner.normalized_features:
        raise UsageError(
            f"--to {name} is for the normalized feature of an image encoder, but "
            f"{classifier.method} adapts it or adds another: export it with --to onnx, which "
            "contains the whole model"
        )


def require_plain_image_encoder(classifier: Any, name: str) -> None:
    """Raise UsageError for a method that changes the backbone's image encoder or its feature."""
    if not classifier.model.learner.frozen_image_encoder:
        raise UsageError(
            f"--to {name} contains the backbone's own image encoder, but {classifier.method} has "
            "learned visual prompts in it: export it with --to onnx, which contains them"
        )
    require_plain_features(classifier, name)


def image_settings(classifier: Any) -> dict[str, Any]:
    """Return the image transform: size (height, width), interpolation, mean and std per channel.

    Raises UsageError for a transform that these do not describe.
    """
    inputs = classifier.input_settings
    if "instance_norm" in inputs.TRANSFORMS:
        raise UsageError(
            "the model was trained with INPUT.TRANSFORMS instance_norm, which no format can "
            "express: use scripts/predict.py"
        )
    normalized = "normalize" in inputs.TRANSFORMS
    return {
        "size": list(inputs.SIZE),
        "interpolation": inputs.INTERPOLATION,
        "mean": list(inputs.PIXEL_MEAN) if normalized else [0.0] * 3,
        "std": list(inputs.PIXEL_STD) if normalized else [1.0] * 3,
    }
