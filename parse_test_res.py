"""Average the results of runs with different seeds, from their log.txt, as CoOp's script does.

    python parse_test_res.py output/caltech101/CoOp/vit_b16_16shots/nctx16_cscFalse_ctpend
    python parse_test_res.py output/evaluation/CoOp/vit_b16_ep50_ctxv1_16shots --test-log \\
        --multi-exp
    python parse_test_res.py output/base2new/test_new/critters/shots_16/CoOp/critters --test-log

DIRECTORY contains one folder for each seed, each with a log.txt, or with --multi-exp several such
directories. Results are read after the line "Finish training" ("Finished training" in older
versions of Dassl), or with --test-log (runs that only test) after "=> result". Unfinished runs are
listed and not averaged. As in CoOp's script, std is the population standard deviation (n), and
--ci95 prints 1.96 std / sqrt(n) instead; scripts/results.py uses n - 1.
"""

import math
import re
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, pstdev

from dassl.utils import arguments
from dassl.utils.errors import UsageError
from dassl.utils.failures import run_program

END_OF_TRAINING, END_OF_TEST = ("Finish training", "Finished training"), ("=> result",)
EPOCH = "epoch ["  # the start of the lines that training prints
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# "* accuracy: 81.0%" anywhere in a line, or a line that is "accuracy: 81.00%"
METRIC = re.compile(rf"(?:\* |^)(\w{{1,40}}): ({NUMBER})%", re.ASCII)
MAX_LINE = 1 << 16  # characters; the rest of a longer line is skipped
MAX_METRICS = 50  # names that are remembered, for error messages


@dataclass
class Log:
    """What a log.txt says.

    metrics: last percentages after the end signal; empty for an unfinished run.
    tests_only: whether it has a result, but neither an epoch nor the end of a training.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    tests_only: bool = False


def read_log(path: Path, end_signals: Sequence[str], keyword: str) -> Log:
    """Return the content of a log of any size; lines that are not text are ignored.

    Raises:
        UsageError: the path is not a file, or the percentage ``keyword`` is not in 0 to 100.
    """
    if not path.is_file():
        raise UsageError(f"{path} is not a file: remove it, or choose another directory")
    log, ended, trains, tested = Log(), False, False, False
    for line in _lines(path):
        ended = ended or line in end_signals
        trains = trains or line.startswith(EPOCH) or line in END_OF_TRAINING
        tested = tested or line in END_OF_TEST
        match = METRIC.search(line) if ended else None
        if match and (match[1] == keyword or len(log.metrics) < MAX_METRICS):
            log.metrics[match[1]] = float(match[2])
    log.tests_only = tested and not trains
    if keyword in log.metrics and not 0 <= log.metrics[keyword] <= 100:
        raise UsageError(
            f"{path} says that {keyword} is {log.metrics[keyword]}%, which is not in 0 to 100: "
            "remove this run, or choose another --keyword"
        )
    return log


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file without surrounding spaces, cut to `MAX_LINE` characters."""
    with open(path, encoding="utf-8", errors="replace") as file:
        starts = True
        while part := file.readline(MAX_LINE):
            if starts:
                yield part.strip()
            starts = part.endswith("\n")


def parse_directory(
    directory: Path, end_signals: Sequence[str], keyword: str, ci95: bool
) -> float | None:
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
    logs = {path: read_log(path, end_signals, keyword) for path in paths}
    tests_only = all(log.tests_only for log in logs.values())
    values = []
    for path, log in logs.items():
        if not log.metrics and tests_only:
            print(f"left out: {path} is the log of a test without training; add --test-log")
        elif not log.metrics:
            print(f"unfinished, left out: {path} (no result after {end_signals[0]!r})")
        elif keyword not in log.metrics:
            found = ", ".join(list(log.metrics)[:8])
            raise UsageError(f"no '* {keyword}:' in {path}; it has {found}")
        else:
            values.append(log.metrics[keyword])
            print(f"file: {path}. {keyword}: {values[-1]:.2f}%.")
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


def parse_experiments(
    directory: Path, end_signals: Sequence[str], keyword: str, ci95: bool
) -> None:
    """Parse every directory in ``directory`` and print the average of their averages."""
    folders = sorted(path for path in directory.iterdir() if path.is_dir())
    if not folders:
        raise UsageError(f"no folder in {directory}")
    averages = [parse_directory(folder, end_signals, keyword, ci95) for folder in folders]
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
    """Parse the arguments, print the averages and return the exit code."""
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
    end_signals = END_OF_TEST if args.test_log else END_OF_TRAINING
    read = parse_experiments if args.multi_exp else parse_directory
    read(args.directory, end_signals, args.keyword, args.ci95)
    return 0


if __name__ == "__main__":
    sys.exit(main())
