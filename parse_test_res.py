"""Average the results of runs with different seeds, from their log.txt, as CoOp's script does.

    python parse_test_res.py output/caltech101/CoOp/vit_b16_16shots/nctx16_cscFalse_ctpend
    python parse_test_res.py output/evaluation/CoOp/vit_b16_ep50_ctxv1_16shots --test-log \\
        --multi-exp
    python parse_test_res.py output/base2new/test_new/critters/shots_16/CoOp/critters --test-log

DIRECTORY contains one folder for each seed, each with a log.txt, or with --multi-exp several such
directories. Results are read after the line "Finish training", or with --test-log (runs that only
test) after "=> result". Unfinished runs are listed and not averaged. As in CoOp's script, std is
the population standard deviation (n), and --ci95 prints 1.96 std / sqrt(n) instead;
scripts/results.py uses n - 1.
"""

import math
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, pstdev

from dassl.utils import UsageError, arguments
from dassl.utils.failures import run_program

END_OF_TRAINING, END_OF_TEST = "Finish training", "=> result"
METRIC = re.compile(r"\* (\w+): ([-+.\deE]+)%")


def read_log(path: Path, end_signal: str) -> dict[str, float]:
    """Return the last percentages after the line ``end_signal``; empty for an unfinished run."""
    metrics: dict[str, float] = {}
    ended = False
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            ended = ended or line.strip() == end_signal
            match = METRIC.search(line) if ended else None
            if match:
                metrics[match[1]] = float(match[2])
    return metrics


def parse_directory(directory: Path, end_signal: str, keyword: str, ci95: bool) -> float | None:
    """Print every seed and the average of ``keyword``; return the average, or None without one.

    Raises:
        UsageError: there is no log.txt, or a log has no ``keyword``.
    """
    print(f"Parsing files in {directory}")
    paths = sorted(directory.glob("[!.]*/log.txt"), key=_seed)
    if not paths:
        names = sorted(path.name for path in directory.glob("[!.]*"))
        raise UsageError(
            f"no */log.txt in {directory}; it contains {', '.join(names[:8]) or 'nothing'}"
        )
    logs = {path: read_log(path, end_signal) for path in paths}
    values = []
    for path, metrics in logs.items():
        if not metrics:
            print(f"unfinished, left out: {path} (no result after {end_signal!r})")
        elif keyword not in metrics:
            raise UsageError(f"no '* {keyword}:' in {path}; it has {', '.join(metrics)}")
        else:
            values.append(metrics[keyword])
            print(f"file: {path}. {keyword}: {metrics[keyword]:.2f}%.")
    print("===")
    print(f"Summary of directory: {directory}")
    if values:
        spread = 1.96 * pstdev(values) / math.sqrt(len(values)) if ci95 else pstdev(values)
        kind = "95 % confidence interval" if ci95 else "std"
        print(f"* {keyword}: {fmean(values):.2f}% +- {spread:.2f}%")
        print(f"({kind}; {len(values)} of {len(logs)} runs)")
    else:
        print(f"no finished run among {len(logs)}")
    print("===")
    return fmean(values) if values else None


def parse_experiments(directory: Path, end_signal: str, keyword: str, ci95: bool) -> None:
    """Parse every directory in ``directory`` and print the average of their averages."""
    folders = sorted(path for path in directory.iterdir() if path.is_dir())
    if not folders:
        raise UsageError(f"no folder in {directory}")
    averages = [parse_directory(folder, end_signal, keyword, ci95) for folder in folders]
    known = [average for average in averages if average is not None]
    print("Average performance")
    if len(known) == len(averages):
        print(f"* {keyword}: {fmean(known):.2f}%")
    else:
        missing = len(averages) - len(known)
        print(f"not available: {missing} of {len(averages)} have no finished run")


def _seed(path: Path) -> tuple[int, str]:
    """Return the sort key of a log: seed2 before seed10."""
    digits = re.findall(r"\d+", path.parent.name)
    return (int(digits[-1]) if digits else -1, str(path))


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments.Parser(__doc__)
    parser.add_argument("directory", type=arguments.path, help="contains one folder for each seed")
    parser.add_argument("--ci95", action="store_true", help="95 %% confidence interval, not std")
    parser.add_argument("--test-log", action="store_true", help="the runs only test")
    parser.add_argument("--multi-exp", action="store_true", help="several experiments")
    parser.add_argument("--keyword", default="accuracy", help="accuracy, error or macro_f1")
    return run_program(lambda: parse(parser.parse_args(argv)))


def parse(args: Namespace) -> int:
    """Print the averages and return exit code 0; raise UsageError for logs that have none."""
    if not args.directory.is_dir():
        raise UsageError(f"no directory {args.directory}")
    end_signal = END_OF_TEST if args.test_log else END_OF_TRAINING
    read = parse_experiments if args.multi_exp else parse_directory
    read(args.directory, end_signal, args.keyword, args.ci95)
    return 0


if __name__ == "__main__":
    sys.exit(main())
