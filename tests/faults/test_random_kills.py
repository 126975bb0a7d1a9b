"""Whole programs are killed at random moments, and started again until they end.

They then have the bits and the records of an uninterrupted run. Some kills hit all processes of a
program, others one of them. FAULT_KILLS is the number of kills of each program (`make faults`: 10);
without it train.py and sweep.py, which starts jobs as run.py does, are killed once. KILL_SEED
chooses other moments.
"""

import os
import random
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.faults.processes import (
    command_line,
    descendants,
    kill,
    start,
)
from tests.faults.runs import SHOTS, content_of, difference
from tests.toy_command import short_run, swap
from tests.toy_data import caltech101
from tests.trainers.toy_runs import ToyWorld

KILLS = int(os.environ.get("FAULT_KILLS", "0"))
SEED = int(os.environ.get("KILL_SEED", "0"))
DEFAULT_KILLS = {
    "train.py": 1,
    "torchrun train.py": 0,
    "run.py": 0,
    "sweep.py": 1,
    "sweep.py --ray": 0,
}
LIMIT = 300.0  # seconds that a program may take
STARTS = 20  # of a program after a kill
TOY_SETTINGS = {
    "DATALOADER.NUM_WORKERS": "0",
    "DATALOADER.TRAIN_X.BATCH_SIZE": "4",
    "DATALOADER.TEST.BATCH_SIZE": "5",
    "INPUT.SIZE": "(32,32)",
    "OPTIM.MAX_EPOCH": "3",
    "TRAIN.CHECKPOINT_FREQ": "1",
    "TRAINER.COOP.PREC": "fp32",
    "USE_CUDA": "False",
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")


class World:
    """Toy data with 16 images a class, as the protocols need, and the commands of programs."""

    def __init__(self, folder: Path) -> None:
        self.toy = ToyWorld(folder)
        shutil.rmtree(folder / "data")
        caltech101(folder / "data", classes=6, train=16)
        self.whole: dict[str, tuple[dict[str, Any], float]] = {}

    def command(self, program: str, folder: Path) -> tuple[list[str], dict[str, str]]:
        """Return the arguments of Python and the environment of a program in a new folder."""
        if not (folder / "data").exists():
            shutil.copytree(self.toy.folder / "data", folder / "data")
        if "train.py" in program:
            flags = swap(short_run(self.toy, folder), "--root", folder / "data")
            command = ["train.py", *flags, *SHOTS, "OPTIM.MAX_EPOCH", "4"]
            command += ["TRAIN.CHECKPOINT_FREQ", "1", "TEST.FINAL_MODEL", "best_val"]
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
            return [*launcher * (program == "torchrun train.py"), *command], {}
        settings = {**TOY_SETTINGS, "MODEL.BACKBONE.NAME": self.toy.clip}
        pairs = [word for pair in settings.items() for word in pair]
        env = {"DATA": str(folder / "data"), "OUTPUT": str(folder / "out")}
        if program == "run.py":
            return ["scripts/run.py", "coop", "base2new", "caltech101", "1", *pairs], env
        grid = "--trainers coop --datasets caltech101 --seeds 1 2 --protocol base2new_train"
        where = ["--ray"] if program == "sweep.py --ray" else ["--workers", "2"]
        env["RAY_AUTH_MODE"] = "disabled"
        return ["scripts/sweep.py", *grid.split(), *where, "--set", *pairs], env

    def uninterrupted(self, program: str, folder: Path) -> tuple[dict[str, Any], float]:
        """Return what an uninterrupted run leaves, and its seconds; each is run once."""
        if program not in self.whole:
            (folder / "whole").mkdir()
            seconds = finish(program, self, folder / "whole")
            self.whole[program] = content_of(folder / "whole" / "out"), seconds
        return self.whole[program]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def finish(program: str, world: World, folder: Path) -> float:
    """Run a program again and again until it ends well; return the seconds of the last time.

    What a killed program started may go on for some seconds, and keep the folder locked.
    """
    command, env = world.command(program, folder)
    log = folder / "console.txt"
    for _ in range(STARTS):
        began, before = time.monotonic(), log.stat().st_size if log.exists() else 0
        process = start(command, env, log)
        code = wait(process, log)
        if code == 0:
            return time.monotonic() - began
        shown = log.read_bytes()[before:].decode(errors="replace")
        assert "another run is using" in shown, f"code {code}: {shown[-3000:]}"
        time.sleep(0.5)
    raise AssertionError(f"still in use: {log.read_text()[-3000:]}")


def wait(process: Any, log: Path) -> int:
    """Wait for a program and return its exit code; fail if it hangs."""
    try:
        return int(process.wait(LIMIT))
    except Exception:
        kill(descendants(process.pid))
        print(log.read_text()[-3000:])
        raise


def kill_once(program: str, world: World, folder: Path, moment: float, draw: random.Random) -> str:
    """Start a program, and kill it or one of its processes after some seconds; say which."""
    command, env = world.command(program, folder)
    process = start(command, env, folder / "console.txt")
    time.sleep(moment)
    family = descendants(process.pid)
    # Ray's own servers are not killed alone: a driver without them is not expected to end.
    ours = [one for one in family if any(name in command_line(one) for name in command_names())]
    whole = draw.random() < 0.5
    chosen = family if whole or not ours else [draw.choice(ours)]
    what = "all processes" if whole else f"{command_line(chosen[0])[:60]!r}"
    kill(chosen)
    wait(process, folder / "console.txt")
    return f"{program}: {what} killed after {moment:.2f} s"


def command_names() -> Sequence[str]:
    return "train.py", "run.py", "sweep.py", "ray::"


def check_folder(folder: Path, expected: dict[str, Any], what: str) -> None:
    """Check records, checkpoints, locks and hidden files."""
    found = difference(expected, content_of(folder / "out"))
    assert not found, f"{what}: {found}"
    hidden = [path for path in folder.rglob(".*") if path.is_file()]
    assert not hidden, f"{what}: {hidden} left over"
    for lock in folder.rglob("*.lock"):
        FileLock(lock).acquire(timeout=0).lock.release()


@pytest.mark.parametrize(("program", "default"), DEFAULT_KILLS.items())
def test_killed_at_a_random_moment(
    program: str, default: int, world: World, tmp_path: Path
) -> None:
    count = KILLS or default
    if not count:
        pytest.skip("set FAULT_KILLS")
    if "--ray" in program and find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    # The records of a sweep do not depend on where it ran.
    expected, seconds = world.uninterrupted(program.removesuffix(" --ray"), tmp_path)
    draw = random.Random(f"{program} {SEED}")
    for number in range(count):
        folder = tmp_path / f"kill{number}"
        folder.mkdir()
        whats = []
        for _ in range(draw.choice([1, 1, 2]) if KILLS else 1):  # a resumed one, again
            whats.append(kill_once(program, world, folder, draw.uniform(0.1, seconds), draw))
        finish(program, world, folder)
        check_folder(folder, expected, f"KILL_SEED={SEED}, kill {number}: {'; '.join(whats)}")
