"""Measure options on toy CLIPs; tests/trainers/test_compile.py covers compilation."""

import json

import pytest
import torch

from benchmarks import options
from benchmarks.world import TOY, World

pytestmark = pytest.mark.usefixtures("same_threads")


def test_rows_and_table(tmp_path, monkeypatch):
    compiled = []

    def keep_plain(learner, batch_sizes):
        compiled.append((learner, batch_sizes))

    monkeypatch.setattr(options, "compile_encoders", keep_plain)
    words = ["--toy", "--threads", "1", "--budget", "0", "--output", str(tmp_path)]
    options.main(words)
    assert [sizes for _, sizes in compiled] == [{4}]
    (path,) = tmp_path.glob("*-options-toy.json")
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == 4
    assert all(row["ratio"] == row["as_is"] / row["with_it"] for row in rows)
    text = path.with_suffix(".md").read_text()
    assert all(f"| {row['what']} | " in text for row in rows)


def test_different_patch_embedding_is_detected(tmp_path, monkeypatch):
    world = World(tmp_path, TOY, cuda=False)
    monkeypatch.setattr(options.F, "conv2d", lambda image, weight, stride: torch.zeros(4, 64, 4, 4))
    with pytest.raises(AssertionError, match="not close"):
        options.measure(world, 0)
