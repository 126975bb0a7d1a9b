"""Records of output folders, journals and checkpoints to resume, with any content."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dassl.engine import run_records
from dassl.utils import UsageError
from dassl.utils.checkpoint import load_random_state, load_run_checkpoint, load_state
from dassl.utils.file_set import JOURNAL, finish_file_set
from dassl.utils.random_state import get_random_state
from scripts.tables.load import read_run
from tests.fuzz.harness import MUTANTS, SEED, fuzz
from tests.scripts.fake_output import RESULT

DATA = {
    "name": "birds",
    "root": "/data/birds",
    "classes": ["jay", "tit"],
    "all_classes": ["jay", "tit", "owl"],
    "train": {"images": 4, "sha256": "0" * 64},
    "test": {"images": 9, "sha256": "1" * 64},
}
CLIP = {"text_projection": {"shape": "2 x 2", "sample": "0.1 0.2"}}
SETTINGS = {"--trainer": "CoOp", "--seed": 1, "--eval-only": False, "OPTIM.LR": 0.002}
RECORDS: dict[str, tuple[Any, Callable[[Path], Any]]] = {
    "run.json": (
        {
            "status": "finished",
            "command": "python train.py",
            "settings": SETTINGS,
            "model": None,
            "data": DATA,
            "clip": CLIP,
            "versions": {"torch": "2.8.0"},
            "commit": None,
            "seconds": 1.5,
        },
        lambda path: run_records.read_run_record(path.parent),
    ),
    "checkpoint.json": (
        {
            "method": "CoOp",
            "backbone": "ViT-B/16",
            "clip": CLIP,
            "classes": ["jay", "tit"],
            "data": DATA,
            "selection": "best_val",
            "checkpoints": {"model-best.pth.tar": {"epoch": 3, "val_result": 71.5, "saved": "x"}},
            "tensors": {"prompt_learner": {"ctx": "4 x 512"}},
            "settings": SETTINGS,
        },
        lambda path: run_records.read_record(path.parent),
    ),
    "result.json": (
        {**RESULT, "data": DATA, "clip": CLIP, "warnings": ["a"], "commit": "0"},
        lambda path: (run_records.read_result(path.parent), read_run(path)),
    ),
    JOURNAL: (
        {"renames": [[".a-1.tmp", "a"], ["m/.b-1.tmp", "m/b"]]},
        lambda path: finish_file_set(path.parent),
    ),
}


@pytest.mark.parametrize("name", RECORDS)
def test_record(name: str, tmp_path: Path) -> None:
    content, read = RECORDS[name]
    found = fuzz(read, [json.dumps(content).encode()], tmp_path, name, (UsageError,))
    assert found["UsageError"] > 0


@pytest.mark.parametrize(
    "target", ["../outside", "/etc/outside", "m/../../outside"], ids=["up", "absolute", "through"]
)
def test_journal_changes_nothing_outside_its_folder(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".a-1.tmp").write_text("content")
    (folder / JOURNAL).write_text(json.dumps({"renames": [[".a-1.tmp", target]]}))
    with pytest.raises(UsageError, match="is not a journal of this program: delete it"):
        finish_file_set(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def deeper(rng: random.Random, value: Any, depth: int = 0) -> Any:
    """Return ``value`` with one part replaced by something else."""
    others = (None, True, -1, 10**30, float("nan"), "text", b"\0", [], {}, (1, 2))
    tensors = (
        torch.zeros(0),
        torch.zeros(2, 3),
        torch.full((4,), float("nan")),
        torch.ones(3).int(),
    )
    if isinstance(value, dict) and value and depth < 5 and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: deeper(rng, value[key], depth + 1)}
    if isinstance(value, list | tuple) and value and depth < 5 and rng.random() < 0.9:
        index = rng.randrange(len(value))
        part = deeper(rng, value[index], depth + 1)
        return type(value)([*value[:index], part, *value[index + 1 :]])
    return rng.choice((*others, *tensors))


def test_values_of_a_checkpoint_to_resume(tmp_path: Path) -> None:
    """Wrong values are refused when they are loaded, and not in the first training step."""
    rng = random.Random(SEED)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    start = {key: value.clone() for key, value in model.state_dict().items()}

    def step() -> None:
        optimizer.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    step()
    state = {
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 1,
        "best_result": 71.0,
        "best_epoch": 1,
        "val_result": None,
        "random_state": get_random_state(),
    }
    before, refused = get_random_state(), []
    for _ in range(MUTANTS):
        path = tmp_path / "checkpoint"
        changed = deeper(rng, state)
        torch.save(changed, path)
        model.load_state_dict(start)
        try:
            checkpoint = load_run_checkpoint(path)
            load_state(model, checkpoint["state_dict"], "the model")
            load_state(optimizer, checkpoint.get("optimizer"), "the optimizer")
            load_random_state(checkpoint.get("random_state", before), "the file")
            step()
        except UsageError as error:
            refused.append(str(error))
        load_random_state(before, "this test")
    assert len(refused) > MUTANTS / 2
    assert max(map(len, refused)) < 1000
