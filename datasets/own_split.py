"""Draw a random split of class folders, or of a list of images, and record it in a file."""

import os
import random

from dassl.utils import UsageError

from .image_folder import LIST_SUFFIXES, SPLIT_FILE, own_list_of
from .own_list import read_list, split_list, split_path
from .split import class_folders, save_split, split_folders

FRACTIONS = (0.5, 0.2, 0.3)  # of the training, validation and test images


def write_split(
    folder: str,
    seed: int,
    fractions: tuple[float, float, float] = FRACTIONS,
    out: str | None = None,
) -> None:
    """Write a split file of class folders or of a list; raise a UsageError if there is one already.

    Args:
        fractions: of the training, validation and test images of each class; they add up to 1.
        folder: of class folders, or a list of images.
        out: path of the file; default: split.json in ``folder``, or NAME.split.json of a list.
    """
    listed = ""
    if os.path.isdir(folder) or (os.path.isfile(folder) and folder.lower().endswith(LIST_SUFFIXES)):
        listed = own_list_of(os.path.abspath(folder))
    path = out or (split_path(listed) if listed else os.path.join(folder, SPLIT_FILE))
    if not os.path.isdir(folder) and not listed:
        raise UsageError(
            f"{folder} is not a folder: pass one with one subfolder per class, or a list of images "
            "in a .csv or .jsonl file"
        )
    if not all(0 < part < 1 for part in fractions) or abs(sum(fractions) - 1) > 1e-6:
        raise UsageError(
            f"--train, --val and --test are {', '.join(map(str, fractions))}: they must be "
            "greater than 0 and add up to 1"
        )
    if os.path.exists(path):
        raise UsageError(f"{path} exists: remove it first to create another split")
    random.seed(seed)
    train, val, _ = fractions
    if listed:
        parts = split_list(listed, train, val)
        save_split(parts[0], parts[1], parts[2], path, os.path.dirname(listed))
        return
    splits = split_folders(folder, train, val, ignored=["split_fewshot"])  # cached samples
    save_split(*splits, path, folder)


def needs_split(root: str) -> bool:
    """Whether ``root``, class folders or a list of images, has no split and none was drawn for it.

    Raises:
        UsageError: ``root`` is neither a folder nor a list, or a line of the list is wrong.
    """
    listed = own_list_of(root)
    if listed:
        has_own = any(line.split for _, line in read_list(listed))
        return not has_own and not os.path.isfile(split_path(listed))
    if not os.path.isdir(root):
        raise UsageError(
            f"there is no {root}: give a folder with one subfolder of images per class, or a list "
            "of images in a .csv or .jsonl file"
        )
    if os.path.isfile(os.path.join(root, SPLIT_FILE)):
        return False
    return not {"train", "test"} <= set(class_folders(root))
