"""trainers/ trains, saves and loads with stand-ins that have only the originals' names."""

import os
import re
import subprocess
import sys

from tests.conftest import DATA
from tests.trainers.toy_runs import TEST_CASES

ZERO_SHOT = ("ZeroshotCLIP", "ZeroshotCLIP2")
SCRIPT = DATA.parent / "standins" / "take_home.py"


def test_every_trainer_runs_on_the_standins(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "ran TextRefinerCoOp without extend_cfg" in done.stdout
    found = re.findall(r"^ran (\w+) with extend_cfg$", done.stdout, re.MULTILINE)
    assert sorted(found) == sorted([*(name for name, _ in TEST_CASES), *ZERO_SHOT])
