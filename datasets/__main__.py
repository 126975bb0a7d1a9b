"""Write the split file of your own folder of class folders (dataset ImageFolder), at random:

    python -m datasets FOLDER --seed 1

Half of the images of each class are for training, a fifth for validation, the rest for testing.
"""

import argparse
import os
import random

from dassl.utils import UsageError

from .image_folder import SPLIT_FILE
from .split import save_split, split_folders

IGNORED = ("split_fewshot",)  # where the datasets cache the shots that they draw


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m datasets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", help="holds one folder of images a class")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    try:
        write_split(args.folder, args.seed)
    except UsageError as error:
        parser.exit(2, f"error: {error}\n")


def write_split(folder: str, seed: int) -> None:
    """Split the class folders of ``folder`` by ``seed``, and write its split file.

    Raises:
        UsageError: there are no class folders, too few images in one, or a split file already.
    """
    path = os.path.join(folder, SPLIT_FILE)
    if not os.path.isdir(folder):
        raise UsageError(f"{folder} is no folder: name one that holds one folder of images a class")
    if os.path.exists(path):
        raise UsageError(f"{path} exists: remove it first if you want another split")
    random.seed(seed)
    splits = split_folders(folder, ignored=IGNORED)
    try:
        save_split(*splits, path, folder)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror})") from error


if __name__ == "__main__":
    main()
