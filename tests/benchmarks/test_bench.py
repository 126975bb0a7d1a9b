"""The benchmark on toy CLIPs: rows, separate processes, tables and errors."""

import json
from dataclasses import asdict

import pytest
import torch

from benchmarks import bench, child, command, refiner, rows, timing
from benchmarks.report import markdown
from benchmarks.world import TOY, World


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"), TOY, cuda=False)


COST = {
    "what": "3 classes, batch 2",
    "pairs": 2,
    "step_percent": 5.0,
    "step_quartiles": [4.0, 7.5],
    "step_percent_of_operations": 6.25,
    "test_percent": -0.5,
    "test_quartiles": [-1.0, 2.0],
    "test_percent_of_operations": 0.0,
}


def markdown_of(found, cost=COST):
    return markdown(
        {
            "command": "make bench",
            "commit": "abc",
            "machine": command.machine_facts(cuda=False),
            "rows": [asdict(row) for row in found],
            "refiner": [cost],
            "memory": [{"what": "CoOp", "naive": 4.0, "fast": 1.0, "note": ""}],
            "growth": [{"what": "text", "sizes": [1, 2], "seconds": [1.0, 2.0], "exponent": 1.0}],
            "startup": [{"what": "CoOp", "seconds": 9.0}],
            "data": [{"what": "CoOp", "share": 0.25}],
        }
    )


def test_turns_alternate_and_the_median_is_reported(monkeypatch):
    order = []
    clock = iter([1.0, 9.0, 5.0, 5.0, 2.0, 5.0])
    monkeypatch.setattr(timing, "seconds", lambda run, cuda: (run(), next(clock))[1])
    runs = {name: (lambda n=name: order.append(n)) for name in "ab"}
    found = timing.in_turns(runs, False, budget=60, most=3)
    assert "".join(order) == "ab" + "ababab"
    assert found == {"a": 2.0, "b": 5.0}


def test_paired_ratio_alternates_which_side_runs_first(monkeypatch):
    order = []
    clock = iter([1.0, 2.0, 6.0, 2.0, 1.0, 2.0, 9.0, 1.0])
    monkeypatch.setattr(timing, "seconds", lambda run, cuda: (run(), next(clock))[1])
    first, second = (lambda n=name: order.append(n) for name in "ab")
    assert timing.paired_ratios(first, second, False, pairs=4) == [2, 3, 2, 9]
    assert "".join(order) == "ab" + "abbaabba"


def test_power_law():
    assert timing.power_law([1, 10, 100], [3, 300, 30000]) == pytest.approx(2)


def test_flops_of_a_matrix_product():
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    assert timing.flops(lambda: a @ b) == 2 * 3 * 4 * 5


def test_rows_and_table(world):
    step = rows.train_step(world, "TextRefinerCoOp", 3, 2, 0, wanted=1e9)
    (test,) = rows.eval_batch(world, "TextRefinerPromptKD", 3, 2, 0)
    assert step.ratio == step.naive / step.fast
    assert step.naive_gflop > step.fast_gflop > 0
    assert test.naive_gflop > 2 * test.fast_gflop, "the teacher is silent at test"
    cost = refiner.cost(world, 3, 2, pairs=2)
    text = markdown_of([step, test], cost)
    assert f"**{step.ratio:.2f}** | >= 1e+09" in text
    assert "**TextRefinerCoOp train step, 3 classes, batch 2** reached" in text
    assert "25.0 % of a step" in text
    assert cost["step_percent_of_operations"] > 0
    assert cost["test_percent_of_operations"] == 0


@pytest.mark.usefixtures("same_threads")
def test_textrefiner_overhead_has_quartiles(tmp_path):
    words = ["--toy", "--threads", "1", "--output", str(tmp_path)]
    refiner.main(words)
    (path,) = tmp_path.glob("*-refiner-toy.json")
    found = json.loads(path.read_text())["refiner"]
    assert [row["what"] for row in found] == ["2 classes, batch 4", "3 classes, batch 4"]
    for row in found:
        low, high = row["step_quartiles"]
        assert low <= row["step_percent"] <= high
    text = path.with_suffix(".md").read_text()
    assert f"| 3 classes, batch 4 | {found[1]['step_percent']:+.1f} % (" in text
    assert "| +5.0 % (+4.0 to +7.5) | +6.2 % | -0.5 % (-1.0 to +2.0) | +0.0 % |" in markdown_of([])


def test_rows_of_two_precisions_share_the_naive_timings(world):
    found = rows.eval_batch(world, "TextRefinerCoOp", 3, 2, 0, {"fp32": 0, "bf16": 7})
    assert [row.wanted for row in found] == [0, 7]
    assert found[0].naive == found[1].naive
    assert found[1].what == f"{found[0].what}, bf16 against naive's fp32"


def test_naive_time_beyond_the_memory_is_extrapolated_from_fewer_classes(world):
    few = [
        rows.Row("", classes / 10, 1.0, naive_gflop=classes + 1.0, classes=classes)
        for classes in (2, 4)
    ]
    step = rows.train_step(world, "PromptSRC", 10, 2, 0, fewer=few)
    assert step.naive == pytest.approx(1.0)
    assert step.naive_gflop == pytest.approx(11.0)
    assert step.note == "naive: the line through 2 and 4 classes"
    assert step.note in markdown_of([step])


def test_extrapolation_with_a_negative_intercept_is_replaced_by_proportion():
    low, high = (rows.Row("", s, 1.0, naive_gflop=s, classes=c) for c, s in ((2, 0.1), (4, 0.4)))
    seconds, gflop = rows.extrapolate(low, high, 10)
    assert seconds == pytest.approx(1.0), "ten quarters of 0.4, not 1.3"
    assert gflop == pytest.approx(1.3)


def test_full_run_has_every_size_once_and_one_to_check_the_extrapolation(monkeypatch):
    seen = []

    def note(kind):
        def record(world, *size, **more):
            fewer = more.get("fewer", size[-1])
            seen.append((kind, *size[:3], bool(fewer)))
            row = rows.Row("", 1.0, 1.0)
            return [row] if kind == "test" else row

        return record

    monkeypatch.setattr(rows, "train_step", note("step"))
    monkeypatch.setattr(rows, "eval_batch", note("test"))
    for kind in ("text_encoder", "cache_update"):
        monkeypatch.setattr(rows, kind, note(kind))
    found = bench.time_rows(World(None, TOY, cuda=False), full=True, budget=0)
    assert len(found) == len(seen) == len(set(seen))
    assert {("test", *bench.CHECK, line) for line in (True, False)} <= set(seen)
    grid = {(kind, m, c) for kind in ("step", "test") for m in rows.METHODS for c in bench.CLASSES}
    assert grid <= {case[:3] for case in seen}
    large = [case for case in seen if case[0] in ("step", "test") and case[2] > 100]
    assert sum(not case[-1] for case in large) == 1, "naive at more than 100 classes"


def test_step_in_a_separate_process(world):
    naive, fast = (
        child.measure(world, "memory", kind, "CoOp", 200, 2)["bytes"] for kind in ("naive", "fast")
    )
    assert naive > 4 * fast > 0


def test_missing_gpu_is_reported_in_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as end:
        bench.main(["--device", "cuda"])
    assert end.value.code == 2
    assert "PyTorch finds no GPU" in capsys.readouterr().err
