"""Damaged few-shot pickles end in a UsageError, and never in another sample."""

from __future__ import annotations

import pickle
from pathlib import Path

from dassl.utils import UsageError
from datasets.caltech101 import Caltech101
from tests.fuzz.harness import fuzz
from tests.toy_data import caltech101, data_config

SHOTS = 2


def test_few_shot_pickle(tmp_path: Path) -> None:
    caltech101(tmp_path, classes=3, train=3, val=2, test=1, size=8)
    dataset = Caltech101(data_config(tmp_path, "Caltech101", {"DATASET.NUM_SHOTS": SHOTS}))
    (written,) = tmp_path.glob("*/split_fewshot/*.pkl")
    seeds = [written.read_bytes()]
    content = pickle.loads(seeds[0])
    seeds += [pickle.dumps(content, protocol) for protocol in (2, 4)]
    splits = dataset.read_splits()
    splits.pop("test")

    def read(path: Path) -> None:
        sample = dataset._load_shots(str(path), splits, SHOTS)
        labels = [sorted(item.label for item in sample[part]) for part in ("train", "val")]
        assert labels == [[0, 0, 1, 1, 2, 2]] * 2
        assert {id(item) for part in sample.values() for item in part} <= {
            id(item) for part in splits.values() for item in part
        }

    print(fuzz(read, seeds, tmp_path, "shot_2-seed_1.pkl", (UsageError,)))
