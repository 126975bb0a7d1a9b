"""Commands on toy data, their execution under faults, and the comparison of output folders."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import torch

from dassl.utils import load_checkpoint
from tests.toy_command import short_run, swap
from tests.trainers.toy_runs import TOY_OPTIONS, ToyWorld

ROOT = Path(__file__).resolve().parents[2]
# What may differ between two runs of one command.
VOLATILE = (
    *("command", "commit", "started", "finished", "seconds", "resources", "saved", "model"),
    "features",
)
SHOTS = ("DATASET.NUM_SHOTS", "4", "DATASET.SUBSAMPLE_CLASSES", "base")
BEST_VAL = ("TEST.FINAL_MODEL", "best_val")
CASES = {
    "CoOp last_step": ("TextRefinerCoOp", ()),
    "CoOp best_val": ("TextRefinerCoOp", BEST_VAL),
    "CoOp best_val, every epoch": ("TextRefinerCoOp", (*BEST_VAL, "TRAIN.CHECKPOINT_FREQ", "1")),
    "CoOp feature store": ("TextRefinerCoOp", ("DATALOADER.VIEWS", "1")),
    "PromptKD last_step": ("TextRefinerPromptKD", ("TRAIN.CHECKPOINT_FREQ", "1")),
    "PromptKD best_val": ("TextRefinerPromptKD", BEST_VAL),
}


class Place:
    """A folder with its own copy of the toy data, and the command of one case."""

    def __init__(self, world: ToyWorld, folder: Path, case: str) -> None:
        self.folder, self.out = folder, folder / "out"
        folder.mkdir(parents=True)
        shutil.copytree(world.folder / "data", folder / "data")
        trainer, options = CASES[case]
        command = swap(short_run(world, folder), "--root", folder / "data")
        self.argv = [*swap(command, "--trainer", trainer), *SHOTS]
        if trainer.endswith("PromptKD"):
            values: dict[str, Any] = {
                "TRAINER.PROMPTKD.TEACHER_NAME": world.teacher_clip,
                "TRAINER.PROMPTKD.TEACHER_WEIGHTS": world.teacher,
                "DATASET.DISTILL_ON": "few_shot",
            }
            own = TOY_OPTIONS["PROMPTKD"].items()
            values |= {f"TRAINER.PROMPTKD.{key}": value for key, value in own}
            self.argv += [str(part) for pair in values.items() for part in pair]
        if "store" in case:
            self.argv += ["DATALOADER.FEATURE_STORE", str(folder / "store")]
        self.argv += options

    @property
    def folders(self) -> list[str]:
        """Return the folders that the run may write to."""
        return [str(self.folder)]

    def content(self) -> dict[str, Any]:
        """Return what the run has left in its output folder, as `content_of` does."""
        return content_of(self.out)


def content_of(folder: Path) -> dict[str, Any]:
    """Return the checkpoints and records below a folder, without what may differ."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name.startswith("."):
            found[name] = "left over"
        elif ".tar" in path.name:
            found[name] = load_checkpoint(path)
        elif path.suffix == ".json":
            found[name] = _stable(json.loads(path.read_text()))
        elif path.name in ("checkpoint", "teacher_text.pt"):
            found[name] = "is there"
    return found


def _stable(record: Any) -> Any:
    if isinstance(record, dict):
        return {
            key: "" if key == "root" else _stable(value)
            for key, value in record.items()
            if key not in VOLATILE and not str(value).startswith("/")
        }
    return record


class Server:
    """The process of `tests.faults.server`, started behind ``prefix``, such as unshare."""

    def __init__(self, *prefix: str) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.faults.server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)

    def run(self, place: Place, **faults: Any) -> dict[str, Any]:
        """Run the command of ``place``; return its code, operations and output."""
        return self._ask({"argv": place.argv, "folders": place.folders, **faults})

    def shell(self, *command: str) -> None:
        """Run a command such as mount in the mount namespace of the server."""
        reply = self._ask({"shell": command})
        assert reply["code"] == 0, f"{command}: {reply['output']}"

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def difference(then: Any, now: Any, where: str = "") -> str:
    """Return the first place where two contents differ; "" if they are equal, bit by bit."""
    if isinstance(then, torch.Tensor) and isinstance(now, torch.Tensor):
        return "" if torch.equal(then, now) else f"{where}: the tensors differ"
    if isinstance(then, dict) and isinstance(now, dict):
        if then.keys() != now.keys():
            return f"{where}: {sorted(map(str, then.keys() ^ now.keys()))} only in one of them"
        parts = ((key, then[key], now[key]) for key in then)
    elif isinstance(then, list | tuple) and isinstance(now, list | tuple) and len(then) == len(now):
        parts = ((index, *pair) for index, pair in enumerate(zip(then, now, strict=True)))
    else:
        return "" if then == now else f"{where}: {then!r:.80} and {now!r:.80}"
    return next((found for key, a, b in parts if (found := difference(a, b, f"{where}/{key}"))), "")
