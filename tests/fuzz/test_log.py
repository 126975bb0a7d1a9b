"""Fuzz log.txt, which parse_test_res.py reads: of this project, of older Dassl, and of tests."""

from pathlib import Path

from dassl.utils import UsageError
from parse_test_res import END_OF_TEST, END_OF_TRAINING, read_log
from tests.fuzz.harness import fuzz

RESULT = b"""=> result
* total: 1,000
* correct: 810
* accuracy: 81.0%
* error: 19.0%
* macro_f1: 80.5%
=> per-class result
* class: 0 (cat)\ttotal: 2\tcorrect: 2\tacc: 100.0%
* average: 81.0%
"""
EPOCH = b"epoch [1/2] batch [5/5] time 0.010 (0.010) data 0.001 (0.001) loss 1.2 (1.2) lr 2.0e-3\n"
SEEDS = (
    b"Loading trainer: CoOp\r\n" + EPOCH + RESULT + b"Finish training\n" + RESULT,
    b"epoch [1/50][5/10]\tloss 1.2 (1.2)\nFinished training\n" + RESULT.replace(b"81.0", b"81.00"),
    b"Evaluate on the *test* set\n" + RESULT + "prompt: \u00e9\u4e2d\n".encode(),
)


def test_log(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        for signals in (END_OF_TRAINING, END_OF_TEST):
            log = read_log(path, signals, "accuracy")
            assert all(len(name) <= 40 for name in log.metrics)

    found = fuzz(read, SEEDS, tmp_path, "log.txt", (UsageError,))
    assert found["read"] > 0
