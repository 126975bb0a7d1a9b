"""trainers/ trains, saves and loads with stand-ins that have only the originals' names."""

import os
import subprocess
import sys

from tests.conftest import DATA

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
    for trainer in ("TextRefinerCoOp", "TextRefinerCoCoOp", "TextRefinerMaPLe", "PromptSRC"):
        assert f"ran {trainer} with extend_cfg" in done.stdout
