"""Describe the data of a run by names, sizes and hashes, so that two runs can be compared."""

import hashlib
import os
from collections.abc import Sequence
from typing import Any

PARTS = ("train", "train_u", "val", "test")


def describe_data(dataset: Any, root: str) -> dict[str, Any]:
    """Return what a dataset contains, as plain containers for a JSON file.

    Args:
        dataset: any object with CoOp's attributes ``train_x``, ``train_u``, ``val``, ``test`` and
            ``classnames``; those of this project also have ``display_name`` and
            ``all_classnames``.
        root: cfg.DATASET.ROOT.

    Returns:
        "name": the dataset's name, for an own folder that of the folder; "root": ``root`` as an
        absolute path; "classes": the class names by label; "all_classes": those before base or new
        classes were selected; and for each of "train", "train_u", "val" and "test" that has images
        {"images": their number, "sha256": the hash of their list}. The list is in order, because
        the order of the images determines the training: lines "path NUL label", with paths
        below the dataset's folder, so that a folder may be moved.
    """
    root = os.path.abspath(os.path.expanduser(root))
    classes = list(dataset.classnames)
    # A dataset may join its folder to the root in place, or leave the class attribute as it is.
    folder = os.path.normpath(os.path.join(root, getattr(dataset, "dataset_dir", "")))
    description: dict[str, Any] = {
        "name": getattr(dataset, "display_name", type(dataset).__name__),
        "root": root,
        "classes": classes,
        "all_classes": list(getattr(dataset, "all_classnames", classes)),
    }
    for part in PARTS:
        if images := getattr(dataset, "train_x" if part == "train" else part, None):
            description[part] = {"images": len(images), "sha256": _hash_list(images, folder)}
    return description


def _hash_list(images: Sequence[Any], folder: str) -> str:
    """Return the SHA-256 of the paths below ``folder`` and labels, as hexadecimal digits."""
    prefix = os.path.join(folder, "")
    lines = [f"{item.impath.removeprefix(prefix)}\0{item.label}\n" for item in images]
    text = "".join(lines).replace(os.sep, "/")
    # File names that are not UTF-8 are surrogates in Python.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
