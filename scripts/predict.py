"""Classify images with a trained model.

    python scripts/predict.py output/.../seed1 photo.jpg folder/ 'more/*.png'
    python scripts/predict.py output/.../seed1 folder/ --classes cat,dog --format csv > scores.csv

RUN is the output folder of a training, or of scripts/convert_checkpoint.py --to ours. Its data,
config and teacher are not needed. A PATH is an image, a folder (with its subfolders) or a glob
pattern.

Images that cannot be read are listed at the end on stderr; the others are classified. Exit codes:
0 done, 1 some images could not be read, 2 wrong usage or files, 74 the machine failed.
docs/inference.md has an example of each format, and the same from Python.
"""

import argparse
import csv
import glob
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dassl.utils import UsageError
from dassl.utils.failures import run_program
from dassl.utils.tools import is_terminal
from scripts.exporting.arguments import add_model_arguments, load_model

BROKEN = 1  # exit code
FORMATS = ("table", "csv", "json")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="output folder of a training")
    add("paths", metavar="PATH", nargs="+", help="image, folder or glob pattern")
    add("--classes", default="", help="names separated by commas; default: those of the training")
    add("--top-k", type=int, default=5, metavar="K", help="classes per image (default: 5)")
    add("--format", choices=FORMATS, default="table", help="default: table")
    add("--batch-size", type=int, default=32, metavar="N", help="images at once (default: 32)")
    add("--device", default=None, help="default: cuda if available, else cpu")
    add("--precision", default=None, help="fp32, amp, bf16 or fp16; default: the training's")
    add_model_arguments(parser)
    return parser


def find_images(paths: Sequence[str]) -> list[str]:
    """Return the image files of paths, folders and glob patterns, each once, in this order.

    Raises UsageError for a path that does not exist or has no images.
    """
    found: dict[str, None] = {}
    for path in paths:
        names = list(_expand(path))
        if not names:
            kind = "folder without images" if os.path.isdir(path) else "path without files"
            raise UsageError(f"{path!r} is a {kind}: give images, folders or glob patterns")
        found |= dict.fromkeys(names)
    return list(found)


def _expand(path: str) -> Iterator[str]:
    if os.path.isdir(path):
        from datasets.split import IMAGE_EXTENSIONS

        for folder, _, names in sorted(os.walk(path, onerror=_raise)):
            for name in sorted(names):
                if name.lower().endswith(IMAGE_EXTENSIONS) and not name.startswith("."):
                    yield os.path.join(folder, name)
    elif os.path.exists(path):
        yield path
    else:
        matches = sorted(glob.glob(os.path.expanduser(path), recursive=True))
        yield from (match for match in matches if os.path.isfile(match))


def _raise(error: OSError) -> None:
    """Raise the error of a folder that cannot be listed, which os.walk would leave out."""
    raise error


class Table:
    """Aligned lines: path, then names and probabilities."""

    def __init__(self, paths: Sequence[str], classnames: Sequence[str]) -> None:
        self.path_width = max(map(len, paths))
        self.name_width = max(map(len, classnames))

    def lines(self, path: str, predictions: Sequence[Any]) -> list[str]:
        """Return the line of one image."""
        cells = (f"{name:{self.name_width}} {100 * p:5.1f} %" for name, p in predictions)
        return ["  ".join([f"{path:{self.path_width}}", *cells]).rstrip()]

    def end(self) -> list[str]:
        """Return nothing."""
        return []


class CSV:
    """One row per image and class: path, rank, class, score."""

    def __init__(self, paths: Sequence[str], classnames: Sequence[str]) -> None:
        self.header = ["path,rank,class,score"]

    def lines(self, path: str, predictions: Sequence[Any]) -> list[str]:
        """Return the rows of one image, after the header for the first one."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for rank, (name, score) in enumerate(predictions, start=1):
            writer.writerow([path, rank, name, f"{score:.6g}"])
        header, self.header = self.header, []
        return [*header, *text.getvalue().splitlines()]

    def end(self) -> list[str]:
        """Return the header if there was no image."""
        return self.header


class JSON:
    """A list of {"path": ..., "predictions": [{"class": ..., "score": ...}, ...]}."""

    def __init__(self, paths: Sequence[str], classnames: Sequence[str]) -> None:
        self.items: list[dict[str, Any]] = []

    def lines(self, path: str, predictions: Sequence[Any]) -> list[str]:
        """Keep the predictions of one image for `end`."""
        rows = [{"class": name, "score": score} for name, score in predictions]
        self.items.append({"path": path, "predictions": rows})
        return []

    def end(self) -> list[str]:
        """Return the list."""
        return [json.dumps(self.items, indent=1, ensure_ascii=False)]


WRITERS: dict[str, Any] = {"table": Table, "csv": CSV, "json": JSON}


def predict(args: argparse.Namespace) -> int:
    """Print the predictions, and then the images that could not be read; return the exit code."""
    from tqdm import tqdm

    from dassl.utils import read_image

    if args.top_k < 1:
        raise UsageError(f"--top-k must be at least 1, got {args.top_k}")
    paths = find_images(args.paths)
    names = [name.strip() for name in args.classes.split(",")] if args.classes else None
    classifier = load_model(
        args,
        classnames=names,
        device=args.device,
        precision=args.precision,
        batch_size=args.batch_size,
    )
    writer = WRITERS[args.format](paths, classifier.classnames)
    broken: list[str] = []
    hidden = not is_terminal(sys.stderr)
    with tqdm(total=len(paths), unit="image", leave=False, disable=hidden) as bar:
        for first in range(0, len(paths), args.batch_size):
            batch, images = paths[first : first + args.batch_size], {}
            for path in batch:
                try:
                    images[path] = read_image(path)
                except UsageError as error:
                    broken.append(str(error))
            rows = classifier.predict(list(images.values()), top_k=args.top_k)
            for path, row in zip(images, rows, strict=True):
                for line in writer.lines(path, row):
                    tqdm.write(line)
            bar.update(len(batch))
    for line in writer.end():
        print(line)
    if broken:
        print(f"{len(broken)} of {len(paths)} images could not be read:", file=sys.stderr)
        for reason in broken:
            print(f"  {reason}", file=sys.stderr)
    return BROKEN if broken else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = build_parser().parse_args(argv)
    from trainers.settings import SettingsError  # imports torch, which --help does not need

    return run_program(lambda: predict(args), usage=(SettingsError,))


if __name__ == "__main__":
    sys.exit(main())
