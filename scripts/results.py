"""Print results as the papers' tables: base and new classes, by shots, cross-dataset, zero-shot.

    python scripts/results.py output
    python scripts/results.py output/demo                          # after make demo
    python scripts/results.py output --seeds 1 2 3 --format latex --out table.tex
    python scripts/results.py output --plot results.png            # and results-few-shot.png
    python scripts/results.py --compare RUN_A RUN_B                # two folders of one method each

Reads the result.json that train.py writes after each test. A folder with a log but no result is
listed as unfinished, or as finished without a test (TEST.NO_TEST). An average is given only if no
seed is missing: --seeds lists the expected seeds; the default is all seeds in the table. A seed
more than 15 points below the median of the others is reported as collapsed. Runs with different
settings never share a row. Runs that differ in backbone, shots, source, split or training images
(DATASET.DISTILL_ON, TRAINER.MODAL) never share a table. As in the papers, an average over datasets
is the mean of their averages, and H the harmonic mean of the averaged base and new accuracies.

Published numbers with the same protocol, dataset, backbone, shots and images are added with their
source, from scripts/published.yaml or another file of the same form (--published).

--compare pairs two methods or settings by dataset and seed: the mean difference with its 95 %
confidence interval, a sign test, every pair, and the settings that differ. Runs on other images or
with another CLIP are refused.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dassl.utils import UsageError
from dassl.utils.arguments import Parser, path, seed
from dassl.utils.failures import run_program
from scripts.runner.files import write_text
from scripts.tables import compare as comparisons
from scripts.tables.load import find
from scripts.tables.names import method_names
from scripts.tables.plot import is_curve, plot_curves, plot_points, save_figure
from scripts.tables.published import load
from scripts.tables.render import FORMATS
from scripts.tables.rows import Options
from scripts.tables.tables import Table, build

PUBLISHED = Path(__file__).with_name("published.yaml")


def main(argv: Sequence[str] | None = None) -> int:
    """Return exit code 0, or 2 for a wrong argument or file, with one line on stderr."""
    parser = Parser(__doc__)
    parser.add_argument("folder", nargs="?", type=path, help="searched with all its subfolders")
    parser.add_argument(
        "--compare", nargs=2, type=path, metavar=("RUN_A", "RUN_B"), help="folders to compare"
    )
    parser.add_argument("--seeds", type=seed, nargs="+", default=[], help="expected seeds")
    parser.add_argument("--format", choices=FORMATS, default="markdown")
    parser.add_argument("--out", type=path, help="write to this file instead of the screen")
    parser.add_argument(
        "--plot", type=path, help="also plot to this PNG, PDF or SVG; few-shot curves beside it"
    )
    parser.add_argument("--published", type=path, metavar="YAML", help="published.yaml by default")
    return run_program(lambda: choose(parser.parse_args(argv)))


def choose(args: Namespace) -> int:
    """Print the tables of a folder, or compare two."""
    if args.compare is None:
        if args.folder is None:
            raise UsageError("the arguments are required: folder, or --compare RUN_A RUN_B")
        return show(args)
    given = {"folder": args.folder, "--plot": args.plot, "--published": args.published}
    unused = [name for name, value in given.items() if value is not None]
    if unused:
        raise UsageError(f"--compare does not use {', '.join(unused)}: leave it out")
    if args.format not in comparisons.FORMATS:
        raise UsageError(
            f"--compare prints {' or '.join(comparisons.FORMATS)}, not --format {args.format}"
        )
    first, second = args.compare
    comparison = comparisons.compare(first, second, args.seeds)
    write(comparisons.FORMATS[args.format](comparison), args.out)
    return 0


def write(text: str, out: Path | None) -> None:
    """Write a text to a file, or to the screen without one."""
    if out is None:
        print(text, end="")
    else:
        write_text(out, text)
        print(f"wrote {out}")


def show(args: Namespace) -> int:
    """Print or write the tables of a folder, and plot them."""
    found = find(args.folder)
    if not (found.runs or found.without_result):
        raise UsageError(f"no run below {args.folder}: no folder there has a log.txt")
    published = load(args.published or PUBLISHED)
    tables = build(found.runs, Options(args.seeds, method_names(found.runs), published))
    write(FORMATS[args.format](tables, found), args.out)
    if args.plot is not None:
        plot(tables, args.plot)
    if args.out is not None or args.format == "csv":  # otherwise the notes are on the screen
        for note in [note for table in tables for note in table.notes]:
            print(f"note: {note}", file=sys.stderr)
        for folder, what in found.without_result.items():
            print(f"{what}: {folder}", file=sys.stderr)
    return 0


def plot(tables: Sequence[Table], file: Path) -> None:
    """Plot few-shot curves to a file beside ``file``, and the other tables to ``file``."""
    curves = [table for table in tables if is_curve(table)]
    others = [table for table in tables if not is_curve(table)]
    if others:
        save_figure(plot_points(others), file)
        print(f"wrote {file}")
    if curves:
        file = file.with_name(f"{file.stem}-few-shot{file.suffix}")
        save_figure(plot_curves(curves), file)
        print(f"wrote {file}")


if __name__ == "__main__":
    sys.exit(main())
