"""Average the results of runs with different seeds, from their log.txt, as CoOp's script does.

    python parse_test_res.py output/caltech101/CoOp/vit_b16_16shots/nctx16_cscFalse_ctpend
    python parse_test_res.py output/evaluation/CoOp/vit_b16_ep50_ctxv1_16shots --test-log \\
        --multi-exp
    python parse_test_res.py output/base2new/test_new/critters/shots_16/CoOp/critters --test-log

DIRECTORY holds one folder a seed, each with a log.txt; with --multi-exp it holds such directories.
A log counts from the line "Finish training" on; with --test-log (runs that only test) from
"=> result". Unfinished runs are named and not averaged. As in CoOp's script the std is that of the
population (n), and --ci95 shows 1.96 std / sqrt(n) instead; scripts/results.py takes n - 1.
"""

import argparse
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

END_OF_TRAINING, END_OF_TEST = "Finish training", "=> result"
METRIC = re.compile(r"\* (\w+): ([-+.\deE]+)%")


class UsageError(ValueError):
    """Nothing to parse, told in one sentence."""


@dataclass(frozen=True)
class Log:
    """One log.txt: the metrics of its last result, empty if the run did not get there."""

    path: Path
    metrics: dict[str, float]


def read_log(path: Path, end_signal: str) -> Log:
    """The percentages that stand after ``end_signal``; of several results the last one counts."""
    metrics: dict[str, float] = {}
    ended = False
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            ended = ended or line.strip() == end_signal
            match = METRIC.search(line) if ended else None
            if match:
                metrics[match[1]] = float(match[2])
    return Log(path, metrics)


def parse_directory(directory: Path, end_signal: str, keyword: str, ci95: bool) -> float | None:
    """Print every seed and the average of ``keyword``; return the average, None without one.

    Raises:
        UsageError: no log.txt, or logs that report other metrics only.
    """
    print(f"Parsing files in {directory}")
    folders = [path for path in directory.iterdir() if not path.name.startswith(".")]
    paths = sorted(
        (path / "log.txt" for path in folders if (path / "log.txt").is_file()), key=_by_seed
    )
    if not paths:
        raise UsageError(f"no */log.txt in {directory}; its folders: {_names(folders)}")
    logs = [read_log(path, end_signal) for path in paths]
    finished = [log for log in logs if log.metrics]
    for log in logs:
        if not log.metrics:
            print(f"unfinished, left out: {log.path} (no result after {end_signal!r})")
        elif keyword not in log.metrics:
            raise UsageError(f"no '* {keyword}:' in {log.path}; it has {', '.join(log.metrics)}")
        else:
            print(f"file: {log.path}. {keyword}: {log.metrics[keyword]:.2f}%.")
    print("===")
    print(f"Summary of directory: {directory}")
    values = [log.metrics[keyword] for log in finished]
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
    if len(known) < len(averages):
        print(
            f"not available: {len(averages) - len(known)} of {len(averages)} have no finished run"
        )
    else:
        print(f"* {keyword}: {fmean(known):.2f}%")


def _by_seed(path: Path) -> tuple[int, str]:
    """seed2 before seed10."""
    digits = re.findall(r"\d+", path.parent.name)
    return (int(digits[-1]) if digits else -1, str(path))


def _names(folders: list[Path]) -> str:
    return ", ".join(sorted(path.name for path in folders)[:8]) or "none"


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="one folder a seed")
    parser.add_argument("--ci95", action="store_true", help="95 %% confidence interval, not std")
    parser.add_argument("--test-log", action="store_true", help="the runs only test")
    parser.add_argument("--multi-exp", action="store_true", help="several experiments")
    parser.add_argument("--keyword", default="accuracy", help="accuracy, error or macro_f1")
    args = parser.parse_args(words)
    end_signal = END_OF_TEST if args.test_log else END_OF_TRAINING
    parse = parse_experiments if args.multi_exp else parse_directory
    try:
        if not args.directory.is_dir():
            raise UsageError(f"no directory {args.directory}")
        parse(args.directory, end_signal, args.keyword, args.ci95)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
