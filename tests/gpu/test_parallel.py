"""Parallel runs on CUDA match one process: NCCL with one process, and two on one GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.gpu.two_on_one import NAMES, case_on
from tests.trainers.parallel_runs import run
from tests.trainers.test_parallel import deviations

DEVICE = "cuda"
ROOT = Path(__file__).parents[2]
# As in `dassl.utils.distributed.process_group`, which does nothing for a single process.
BACKENDS = {"cuda": "cpu:gloo,cuda:nccl", "cpu": "gloo"}


@pytest.fixture(scope="module")
def one(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    return {name: run(world, case_on(name, DEVICE), folder / name) for name in NAMES}


def assert_follows(found, expected):
    assert len(found["steps"]) == len(expected["steps"]) == 6
    worst = deviations(found, expected)
    assert max(worst.values()) < 1e-9, worst
    assert found["decided"] == expected["decided"]


@pytest.mark.parametrize("name", NAMES)
def test_nccl_group_of_one_process(one, world, name, tmp_path):
    torch.distributed.init_process_group(
        BACKENDS[DEVICE], store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        found = run(world, case_on(name, DEVICE), tmp_path)
    finally:
        torch.distributed.destroy_process_group()
    assert_follows(found, one[name])


def test_two_processes_on_one_gpu(one, world, tmp_path):
    program = str(ROOT / "tests" / "gpu" / "two_on_one.py")
    command = [sys.executable, program, str(world.folder), str(tmp_path), DEVICE]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in NAMES:
        assert_follows(torch.load(tmp_path / f"{name}.pt"), one[name])
