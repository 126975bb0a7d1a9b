"""N processes match one (gloo, CPU): losses, cache, weights, decisions, results and files."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import train
from dassl.utils import UsageError, distributed
from tests.trainers.parallel_runs import CASES, RUN_BY, build, run
from tests.trainers.toy_runs import ToyWorld, learned

ROOT = Path(__file__).parents[2]
RUNS = str(ROOT / "tests" / "trainers" / "parallel_runs.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


def torchrun(count, *command):
    """Run ``command`` in ``count`` processes; return output, errors and exit code."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += ["--nproc_per_node", str(count), *command]
    return subprocess.run(launch, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def one(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    return {name: run(world, case, folder / name) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def done(world, tmp_path_factory):
    """Return the folder of all runs in 2 and 4 processes and of the checks in two."""
    folder = tmp_path_factory.mktemp("several")
    command = [sys.executable, RUNS, str(world.folder), str(folder)]
    finished = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return folder


@pytest.fixture(scope="module", params=RUN_BY)
def several(request, done):
    """Return the folder of the parallel runs, and the runs by name."""
    folder = done / str(request.param)
    return folder, {name: torch.load(folder / f"{name}.pt") for name in RUN_BY[request.param]}


def deviations(found, expected):
    """Return the largest absolute deviation by quantity over all steps, and of final weights."""
    largest = {}
    for ours, theirs in zip(found["steps"], expected["steps"], strict=True):
        for key, value in theirs.items():
            deviation = float((ours[key] - value).abs().max())
            largest[key] = max(deviation, largest.get(key, 0.0))
    for key, value in expected["learned"].items():
        largest[key] = float((found["learned"][key] - value).abs().max())
    return largest


def test_float64_runs_differ_only_by_rounding(one, several):
    for name, found in several[1].items():
        if CASES[name].double:
            assert len(found["steps"]) == CASES[name].epochs * 3
            worst = deviations(found, one[name])
            assert max(worst.values()) < 1e-9, (name, worst)


def test_float32_runs_differ_only_by_rounding(one, several):
    # Logits, and thus losses, have rounding errors of 1e-6 (tau times rows of another batch size).
    for name in [name for name in CASES if name.endswith("fp32")]:
        worst = deviations(several[1][name], one[name])
        assert worst["cache"] < 1e-6, (name, worst)
        assert worst["loss"] < 1e-5, (name, worst)


def test_decisions_are_equal(one, several):
    for name, found in several[1].items():
        assert found["decided"] == one[name]["decided"], name


def test_group_of_one_process(one, world, tmp_path):
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        found = run(world, CASES["TextRefinerPromptKD"], tmp_path)
    finally:
        torch.distributed.destroy_process_group()
    assert max(deviations(found, one["TextRefinerPromptKD"]).values()) < 1e-9
    assert found["decided"] == one["TextRefinerPromptKD"]["decided"]


def test_train_py_by_torchrun(world, tmp_path):
    (tmp_path / "toy.yaml").write_text(world.cfg("TextRefinerCoOp", tmp_path).dump())
    command = ["--config-file", str(tmp_path / "toy.yaml"), "--output-dir", str(tmp_path / "two")]
    best = [
        "TEST.NO_TEST",
        "False",
        "TEST.FINAL_MODEL",
        "best_val",
        "TEST.PER_CLASS_RESULT",
        "True",
    ]
    done = torchrun(2, "train.py", *command, *best)
    assert done.returncode == 0, done.stderr[-3000:]
    log = (tmp_path / "two" / "log.txt").read_text()
    assert log in done.stdout
    assert log.count("Processes: 2, backend gloo") == log.count("Finish training") == 1
    assert [path.name for path in (tmp_path / "two").glob("log*")] == ["log.txt"]

    command[-1] = str(tmp_path / "one")
    assert train.main([*command, *best]) == 0
    records = [json.loads((tmp_path / n / "result.json").read_text()) for n in ("one", "two")]
    for key in ("accuracy", "macro_f1", "correct", "total", "epoch", "selection"):
        assert records[0][key] == records[1][key], key
    blocks = [(tmp_path / n / "log.txt").read_text().split("=> result") for n in ("one", "two")]
    for alone, shared in zip(*blocks, strict=True):
        lines = [line for line in alone.splitlines() if line.startswith(("* ", "Selection"))]
        assert lines == [ln for ln in shared.splitlines() if ln.startswith(("* ", "Selection"))]


def test_error_is_printed_once_and_stops_all_processes(tmp_path):
    # First only rank 1 fails while the others wait for it; then all fail at once.
    program = """
import sys
from dassl.utils import UsageError, distributed
with distributed.process_group():
    if sys.argv[1] == "all" or distributed.rank() == 1:
        raise UsageError("sentence of one")
    distributed.barrier()
"""
    (tmp_path / "program.py").write_text(program)
    for who in ("one", "all"):
        failed = torchrun(2, str(tmp_path / "program.py"), who)
        assert failed.returncode != 0
        assert failed.stderr.count("UsageError: sentence of one") == 1
        assert "Connection" not in failed.stderr


def test_one_process_resumes_a_run_of_several(one, several, world, tmp_path):
    folder, _ = several
    name = "TextRefinerCoOp-long"
    shutil.copytree(folder / name, tmp_path / "run")
    for newest in (tmp_path / "run").rglob("model.pth.tar-7"):
        newest.unlink()
    trainer = build(world, CASES[name], tmp_path / "run")
    trainer.train()
    assert trainer.start_epoch == 6
    for key, value in learned(trainer).items():
        assert float((value - one[name]["learned"][key]).abs().max()) < 1e-9, key


def test_missing_rendezvous_address_raises(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    message = "RANK.* not set: start several processes with torchrun"
    with pytest.raises(UsageError, match=message), distributed.process_group():
        pass


def test_more_processes_than_gpus_raise(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="start at most 1"):
        distributed.set_device()
