"""Write a report of trained runs: one HTML page without links to other files.

    python scripts/report.py output/.../seed1 --out report.html
    python scripts/report.py output/CoOp/seed1 output/TextRefinerCoOp/seed1   # side by side

RUN is an output folder of train.py: of a training, or of a test (--eval-only), which shows the
tested model on the data of the test. The page has accuracy, confusions, calibration, training
curves, the learned context, the cache and what refinement changes; a JSON file beside it has all
numbers. docs/report.md describes each section.

Exit codes: 0 done, 2 wrong usage or files, 74 the machine failed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dassl.utils import UsageError
from dassl.utils.failures import run_program

SUFFIXES = (".html", ".htm")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", type=Path, help="output folder of train.py")
    add("--out", type=Path, default=Path("report.html"), help="default: report.html")
    add("--images", default="", metavar="ROOT", help="folder of the datasets; default: the run's")
    add("--max-images", type=int, metavar="N", help="of the test and of the training split")
    add("--device", help="default: cuda if available, else cpu")
    return parser


def write(args: argparse.Namespace) -> int:
    """Write page and numbers; return the exit code."""
    if args.out.suffix not in SUFFIXES:
        raise UsageError(f"--out is {str(args.out)!r}: give a file name that ends with .html")
    if args.max_images is not None and args.max_images < 1:
        raise UsageError(f"--max-images must be at least 1, got {args.max_images}")
    if len({folder.resolve() for folder in args.runs}) < len(args.runs):
        raise UsageError("a RUN is given twice: give each folder once")
    try:
        import jinja2  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            "the report needs the package jinja2: pip install -r requirements-report.txt"
        ) from error
    import datasets  # noqa: F401  # imported for its registrations
    import trainers  # noqa: F401
    from scripts.page.build import build

    for path in build(args.runs, args.out, args.images, args.max_images, args.device):
        print(path)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = build_parser().parse_args(argv)
    from trainers.settings import SettingsError  # imports torch, which --help does not need

    return run_program(lambda: write(args), usage=(SettingsError,))


if __name__ == "__main__":
    sys.exit(main())
