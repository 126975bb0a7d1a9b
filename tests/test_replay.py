"""The replay of a recorded run passes, and other runs are detected."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import replay

DATA = Path(__file__).parent / "data"

pytestmark = pytest.mark.usefixtures("same_threads")


@pytest.mark.parametrize(
    ("trace", "steps", "compared"),
    [
        ("coop", 20, {"loss1", "loss2", "loss3", "cache", "ctx", "eval/logits"}),
        (
            *("promptkd", 12),
            {"L_ukd", "L_sem", "L_mem", "cache", "student_prompts", "teacher/2", "eval/logits"},
        ),
    ],
)
def test_replay_matches_the_recorded_run(trace, steps, compared):
    command = [sys.executable, str(Path(replay.__file__)), str(DATA / f"{trace}.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["steps"] == steps
    assert compared <= report["deviations"].keys()


@pytest.mark.parametrize(
    ("trace", "setting", "value", "noticed"),
    [
        ("coop", "alpha", 0.21, "loss1"),
        ("coop", "momentum", 0.81, "cache"),
        ("coop", "topk", 4, "loss2"),
        ("promptkd", "temperature", 1.01, "L_ukd"),
        ("promptkd", "topk", 4, "L_sem"),
    ],
)
def test_changed_setting_is_detected(tmp_path, capsys, trace, setting, value, noticed):
    arrays = dict(np.load(DATA / f"{trace}.npz"))
    settings = json.loads(str(arrays["hparams"])) | {setting: value}
    # With another top-k, debug tensors have another shape; losses differ as well.
    arrays = {k: v for k, v in arrays.items() if "/debug/" not in k}
    np.savez(tmp_path / "other.npz", **(arrays | {"hparams": json.dumps(settings)}))
    assert replay.main([str(tmp_path / "other.npz")]) == 1
    row = json.loads(capsys.readouterr().out)["deviations"][noticed]
    assert row["max_abs"] > row["limit"]


@pytest.mark.parametrize("name", ["empty.npz", "missing.npz"])
def test_file_that_is_not_a_trace_raises(tmp_path, capsys, name):
    np.savez(tmp_path / "empty.npz", nothing=np.zeros(1))
    with pytest.raises(SystemExit, match="2"):
        replay.main([str(tmp_path / name)])
    assert name in capsys.readouterr().err
