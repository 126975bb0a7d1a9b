"""Results as the papers' tables: base and new classes, by shots, cross-dataset, domains, zero-shot.

    python scripts/results.py output
    python scripts/results.py output/demo                          # after make demo, on a CPU
    python scripts/results.py output --seeds 1 2 3 --format latex --out table.tex
    python scripts/results.py output --plot results.png            # and results-few-shot.png

Reads the result.json that train.py writes after each test; a folder with a log but no result is
named as unfinished, or as finished without a test (TEST.NO_TEST). An average is given only where no
seed is missing: --seeds says which are due, otherwise all that occur in the table. A seed more than
15 points below the median of the others is pointed at as collapsed. Runs in different settings
never share a row, nor a table if they differ in backbone, shots, source, split or in the images of
their training (DATASET.DISTILL_ON, TRAINER.MODAL). Where there are several datasets or targets,
their average is the mean of their averages, and H the harmonic mean of the averaged base and new
accuracies, as in the papers; it is given only where no cell is missing.

Published numbers of the same protocol, dataset, backbone, shots and images stand beside, each with
its source, from scripts/published.yaml or from the file of the same form that --published names.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dassl.utils import UsageError  # noqa: E402
from scripts.report.load import find  # noqa: E402
from scripts.report.plot import is_curve, plot_bars, plot_curves  # noqa: E402
from scripts.report.published import load  # noqa: E402
from scripts.report.render import FORMATS  # noqa: E402
from scripts.report.rows import Options  # noqa: E402
from scripts.report.tables import Table, build  # noqa: E402
from scripts.runner.files import write_text  # noqa: E402


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="looked through with all folders below")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="seeds that are due")
    parser.add_argument("--format", choices=FORMATS, default="markdown")
    parser.add_argument("--out", type=Path, help="write here instead of to the screen")
    parser.add_argument(
        "--plot", type=Path, help="also draw bars into this PNG, PDF or SVG, and few-shot curves"
    )
    parser.add_argument(
        "--published", type=Path, default=ROOT / "scripts" / "published.yaml", metavar="YAML"
    )
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    try:
        show(parse(words))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def show(args: argparse.Namespace) -> None:
    """Print or write the tables of a folder, and the plot."""
    found = find(args.folder)
    if not (found.runs or found.unfinished or found.untested):
        raise UsageError(f"no run below {args.folder}: no folder there holds a log.txt")
    tables = build(found.runs, Options(seeds=args.seeds, published=load(args.published)))
    text = FORMATS[args.format](tables, found.unfinished, found.untested)
    if args.out is None:
        print(text, end="")
    else:
        write_text(args.out, text)
        print(f"wrote {args.out}")
    if args.plot is not None:
        draw(tables, args.plot)
    if args.out is not None or args.format == "csv":  # elsewhere the notes stand in the text
        for note in [note for table in tables for note in table.notes]:
            print(f"note: {note}", file=sys.stderr)
        for folder in found.unfinished:
            print(f"unfinished: {folder}", file=sys.stderr)
        for folder in found.untested:
            print(f"finished without a test: {folder}", file=sys.stderr)


def draw(tables: Sequence[Table], path: Path) -> None:
    """Bars into ``path``, few-shot curves beside it."""
    curves = [table for table in tables if is_curve(table)]
    bars = [table for table in tables if not is_curve(table)]
    if bars:
        plot_bars(bars, path)
        print(f"wrote {path}")
    if curves:
        path = path.with_name(f"{path.stem}-few-shot{path.suffix}")
        plot_curves(curves, path)
        print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
