"""run.py and sweep.py on disks that are full or read-only, for real."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dassl.utils.failures import MACHINE
from tests.faults.processes import ROOT
from tests.faults.test_random_kills import World
from tests.faults.test_real_faults import NAMESPACE, can_mount

pytestmark = pytest.mark.skipif(not can_mount(), reason="mounting needs root")

FULL = "mount -t tmpfs -o size=4k none {0}; head -c 9999 /dev/zero > {0}/other 2>/dev/null || true"
READ_ONLY = "mount --bind {0} {0}; mount -o remount,bind,ro {0}"
SWEEP_LOGS = "out/sweeps/base2new_train/logs"
JOB = "out/base2new/train_base/caltech101"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize(
    ("program", "name", "mount"),
    [
        ("run.py", "out", READ_ONLY),
        ("run.py", "out", FULL),
        ("sweep.py", "out", READ_ONLY),
        ("sweep.py", "out", FULL),
        ("sweep.py", SWEEP_LOGS, READ_ONLY),
        ("sweep.py", SWEEP_LOGS, FULL),
        ("sweep.py", JOB, READ_ONLY),
    ],
    ids=lambda value: {READ_ONLY: "read-only", FULL: "full"}.get(value, value),
)
def test_runner_ends_with_one_sentence(
    world: World, tmp_path: Path, program: str, name: str, mount: str
) -> None:
    command, env = world.command(program, tmp_path)
    folder = tmp_path / name
    folder.mkdir(parents=True)
    script = f'{mount.format(folder)}; exec "$@"'
    done = subprocess.run(
        [*NAMESPACE, "sh", "-ec", script, "sh", sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        capture_output=True,
        text=True,
        timeout=120,
    )
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stdout + done.stderr, done.stderr[-3000:]
    assert done.returncode == MACHINE, f"code {done.returncode}: {done.stdout}{done.stderr}"
    ended = "failed with exit code 74" in errors[-1]  # run.py, below the error of its train.py
    assert len(errors) == 1 + ended, errors
    assert f"'{folder}" in errors[0]
