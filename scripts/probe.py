"""Measure what the cache of trained runs does, without training.

    python scripts/probe.py output/.../seed1
    python scripts/probe.py output/.../seed1 output/.../seed2 output/.../seed3 --json probe.json

RUN is an output folder of train.py with a refined method: of a training, which is probed on its
base and new test images if it learned the base classes, or of a test (--eval-only). Printed are how
much the read of the cache depends on the class, accuracy and changed predictions when the read is
replaced at test, and how the training images use the entries at each saved epoch. Several runs get
one row each, and those that differ in the seed only a mean. docs/report.md explains each measure.

Exit codes: 0 done, 2 wrong usage or files, 74 the machine failed.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dassl.utils import UsageError
from dassl.utils.arguments import Parser, path, positive
from dassl.utils.arguments import seed as seed_type
from dassl.utils.failures import run_program
from scripts.runner.files import write_text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", type=path, help="output folder of train.py")
    add("--json", type=path, metavar="FILE", help="also write all numbers to this file")
    add("--images", default="", metavar="ROOT", help="folder of the datasets; default: the run's")
    add("--max-images", type=positive, metavar="N", help="of each test half and of the training")
    add("--device", help="default: cuda if available, else cpu")
    add("--seed", type=seed_type, default=0, help="of the random entries; default: 0")
    return run_program(lambda: _probe(parser.parse_args(argv)))


def _probe(args: Namespace) -> int:
    """Print the tables, and write the numbers."""
    if len({folder.resolve() for folder in args.runs}) < len(args.runs):
        raise UsageError("a RUN is given twice: give each folder once")
    for folder in args.runs:
        if not folder.is_dir():
            raise UsageError(f"there is no folder {str(folder)!r}: give the output folder of a run")
    if args.json is not None and args.json.is_dir():
        raise UsageError(f"cannot write --json {args.json}: it is a folder, give a file name")

    import msgspec

    import datasets  # noqa: F401  # imported for its registrations
    import trainers  # noqa: F401
    from scripts.probing.probe import probe
    from scripts.probing.table import render
    from trainers.settings import SettingsError

    try:
        found = probe(args.runs, args.images, args.max_images, args.device, args.seed)
    except SettingsError as error:
        raise UsageError(str(error)) from error
    print(render(found), end="")
    if args.json is not None:
        write_text(args.json, msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
        print(f"wrote {args.json}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
