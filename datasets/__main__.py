"""Write the split file of your own folder of class folders (data set ImageFolder), at random:

    python -m datasets FOLDER --seed 1

Half of the images of each class are for training, a fifth for validation, the rest for testing.
"""

import argparse
import os
import random

from .image_folder import SPLIT_FILE
from .split import save_split, split_folders


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m datasets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", help="holds one folder of images a class")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    path = os.path.join(args.folder, SPLIT_FILE)
    if os.path.exists(path):
        parser.error(f"{path} exists: remove it first if you want another split")
    random.seed(args.seed)
    splits = split_folders(args.folder, ignored=("split_fewshot",))
    save_split(*splits, path, args.folder)


if __name__ == "__main__":
    main()
