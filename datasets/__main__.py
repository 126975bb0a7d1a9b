"""List, fetch and check datasets; split a folder of images; write few-shot lists.

    python -m datasets list
    python -m datasets fetch dtd eurosat         # or all; --dry-run shows what would be fetched
    python -m datasets fetch clip:ViT-B/16
    python -m datasets check dtd --images        # decodes every image
    python -m datasets split FOLDER --seed 1     # a folder with one subfolder per class
    python -m datasets shots dtd --shots 16 --seed 1 --json

The data folder is --root, else $DATA, else data/ of the project. Exit codes: 1: something is
missing, broken or could not be fetched; 2: wrong usage; 74: the machine failed (disk, permissions).
"""

import argparse
import contextlib
import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from dassl.utils import UsageError, nearest, write_json
from dassl.utils.failures import run_program

from .image_folder import SPLIT_FILE
from .split import save_split, split_folders

COMMANDS = ("list", "fetch", "check", "split", "shots")
FRACTIONS = (0.5, 0.2, 0.3)  # of the training, validation and test images


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] not in COMMANDS and not words[0].startswith("-"):
        words.insert(0, "split")  # a folder alone, the only command of earlier versions
    args = _parser().parse_args(words)
    return run_program(lambda: _RUN[args.command](args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datasets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = commands.add_parser

    listing = add("list", help="all datasets: classes, images, size, license, state")
    fetch = add("fetch", help="download what is missing, verified, in CoOp's layout")
    fetch.add_argument(
        "names", nargs="+", metavar="NAME", help="datasets, all, clip:MODEL or promptkd-teachers"
    )
    fetch.add_argument("--yes", action="store_true", help="accept the licenses that are shown")
    fetch.add_argument("--mirror", metavar="URL", help="take all files from URL/<dataset>/<file>")
    fetch.add_argument("--dry-run", action="store_true", help="show the plan; uses no network")
    fetch.add_argument("--keep", action="store_true", help="keep the archives in .fetch/")
    check = add("check", help="what is there, missing or broken")
    check.add_argument("names", nargs="*", metavar="NAME", help="datasets; default: all")
    check.add_argument("--images", action="store_true", help="decode every image")
    shots = add("shots", help="write the few-shot list that a training uses")
    shots.add_argument("name", metavar="NAME")
    shots.add_argument("--seed", type=int, default=1)
    shots.add_argument("--shots", type=int, default=16)
    shots.add_argument("--json", action="store_true", help="print the list as JSON")
    shots.add_argument("--out", metavar="FILE", help="write the JSON to a file instead")
    for command in (listing, fetch, check, shots):
        command.add_argument("--root", help="data folder; default: $DATA, else data/")
    split = add("split", help="split a folder of class folders at random, for ImageFolder")
    split.add_argument("folder", help="folder with one subfolder of images per class")
    split.add_argument("--seed", type=int, default=1)
    for name, fraction in zip(("train", "val", "test"), FRACTIONS, strict=True):
        split.add_argument(f"--{name}", type=float, default=fraction, help=f"default: {fraction}")
    split.add_argument("--out", metavar="FILE", help=f"default: FOLDER/{SPLIT_FILE}")
    return parser


def _list(args: argparse.Namespace) -> int:
    from .download.catalog import catalog, data_root
    from .download.listing import show_list

    root = data_root(args.root)
    print(show_list(list(catalog().values()), root))
    return 0


def _fetch(args: argparse.Namespace) -> int:
    from .download.command import run_fetch

    return run_fetch(args.names, args.root, args.mirror, args.dry_run, args.yes, args.keep)


def _check(args: argparse.Namespace) -> int:
    from .check import check_datasets, render
    from .download.catalog import catalog, data_root, select

    entries = catalog()
    names = select(args.names or ["all"], list(entries))
    reports = check_datasets([entries[name] for name in names], data_root(args.root), args.images)
    print(render(reports, args.images))
    return 0 if all(report.good for report in reports) else 1


def _shots(args: argparse.Namespace) -> int:
    from .download.catalog import catalog, data_root, select
    from .fewshot_list import public_form, sample_list

    entries = catalog()
    (name,) = select([args.name], [n for n in entries if n != "all"])[:1]
    root = data_root(args.root)
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the JSON
        sampled = sample_list(entries[name].cls.__name__, root, args.shots, args.seed)
    if args.out:
        write_json(public_form(sampled, root), args.out)
        print(f"Saved the list to {args.out}")
    elif args.json:
        print(json.dumps(public_form(sampled, root), indent=4))
    return 0


def _split(args: argparse.Namespace) -> int:
    write_split(args.folder, args.seed, (args.train, args.val, args.test), args.out)
    return 0


def write_split(
    folder: str,
    seed: int,
    fractions: tuple[float, float, float] = FRACTIONS,
    out: str | None = None,
) -> None:
    """Write a split file of the class folders; raise a UsageError if there is one already.

    Args:
        fractions: of the training, validation and test images of each class; they add up to 1.
        out: path of the file; default: split.json in ``folder``.
    """
    path = out or os.path.join(folder, SPLIT_FILE)
    if not os.path.isdir(folder):
        known = (
            "" if os.sep in folder or Path(folder).exists() else f" ({nearest(folder, COMMANDS)})"
        )
        raise UsageError(
            f"{folder} is not a folder: pass one with one subfolder per class, or a command{known}"
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
    splits = split_folders(folder, train, val, ignored=["split_fewshot"])  # cached samples
    save_split(*splits, path, folder)


_RUN = {"list": _list, "fetch": _fetch, "check": _check, "split": _split, "shots": _shots}

if __name__ == "__main__":
    if code := main():
        sys.exit(code)
