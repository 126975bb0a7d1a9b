"""Split a folder of class folders at random, and write its split file (dataset ImageFolder):

    python -m datasets FOLDER --seed 1

Half of the images of each class are for training, a fifth for validation, the rest for testing.
"""

import argparse
import os
import random

from dassl.utils import UsageError

from .image_folder import SPLIT_FILE
from .split import save_split, split_folders


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m datasets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", help="folder with one subfolder of images per class")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    try:
        write_split(args.folder, args.seed)
    except UsageError as error:
        parser.exit(2, f"error: {error}\n")


def write_split(folder: str, seed: int) -> None:
    """Write a split file of the class folders; raise a UsageError if there is one already."""
    path = os.path.join(folder, SPLIT_FILE)
    if not os.path.isdir(folder):
        raise UsageError(f"{folder} is not a folder: pass one with one subfolder per class")
    if os.path.exists(path):
        raise UsageError(f"{path} exists: remove it first to create another split")
    random.seed(seed)
    splits = split_folders(folder, ignored=["split_fewshot"])  # cached few-shot samples
    try:
        save_split(*splits, path, folder)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror})") from error


if __name__ == "__main__":
    main()
