"""Conversion of checkpoint folders: values in the files, and checkpoint.json."""

import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch

from dassl.utils import UsageError
from tests.fuzz.archives import saved
from tests.fuzz.harness import MUTANTS, bounded, fuzz
from tests.fuzz.test_checkpoint_values import model, public
from tests.fuzz.values import UNCHANGED, changed
from tests.toy import save_toy_clip
from trainers.checkpoints.convert import to_ours, to_release
from trainers.settings import SettingsError
from trainers.trainer import RefinedCLIP

__all__ = ["model"]  # a fixture

ERRORS = (SettingsError, UsageError)
FILE = "model.pth.tar-4"


def write(folder: Path, content: dict) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, value in content.items():
        (folder / str(name)[:50]).mkdir(parents=True, exist_ok=True)
        (folder / str(name)[:50] / FILE).write_bytes(saved(value))


def release(model: RefinedCLIP) -> dict:
    content = public(model)
    ids = [[49406, 320, 1125, 539, 320, token, 269, 49407, 0] for token in (1710, 2368, 1929)]
    state = content["prompt_learner"]["state_dict"]
    state["prompt_learner.tokenized_prompts"] = torch.tensor(ids)
    state["logit_scale"] = model.learner.clip_model.logit_scale
    return content


def test_to_ours(model: RefinedCLIP, tmp_path: Path) -> None:
    content, numbers = release(model), itertools.count()

    def read(path: Path) -> None:
        write(tmp_path / "theirs", changed(content, path.read_bytes()))
        to_ours(tmp_path / "theirs", tmp_path / f"ours{next(numbers)}", "")

    fuzz(read, [UNCHANGED], tmp_path, "seed", ERRORS)
    assert (tmp_path / "ours0/checkpoint.json").is_file()


@pytest.fixture
def ours(model: RefinedCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a converted folder of the toy CLIP, which is loaded once."""
    write(tmp_path / "theirs", release(model))
    save_toy_clip(tmp_path / "clip.pt", vision_layers=1, text_layers=1)
    to_ours(tmp_path / "theirs", tmp_path / "ours", str(tmp_path / "clip.pt"))
    clip_model = model.learner.clip_model
    monkeypatch.setattr("trainers.checkpoints.convert._load_clip", lambda name: clip_model)
    monkeypatch.setattr("trainers.checkpoints.convert.convert_weights", lambda each: None)
    return tmp_path / "ours"


def release_and_remove(source: Path, target: Path) -> None:
    """Convert a folder; the release's files contain the whole CLIP, 13 MB."""
    to_release(source, target, "")
    shutil.rmtree(target)


def test_checkpoint_json(ours: Path, tmp_path: Path) -> None:
    record, numbers = (ours / "checkpoint.json").read_bytes(), itertools.count()

    def read(path: Path) -> None:
        release_and_remove(path.parent, tmp_path / f"release{next(numbers)}")

    fuzz(read, [record], ours, "checkpoint.json", ERRORS)


def test_values_of_checkpoint_json(ours: Path, tmp_path: Path) -> None:
    record, numbers = json.loads((ours / "checkpoint.json").read_text()), itertools.count()

    def read(path: Path) -> None:
        text = json.dumps(changed(record, path.read_bytes()), skipkeys=True, default=lambda _: 1)
        (ours / "checkpoint.json").write_text(text)
        release_and_remove(ours, tmp_path / f"release{next(numbers)}")

    fuzz(read, [UNCHANGED], tmp_path, "seed", ERRORS, MUTANTS // 2)


def test_hostile_checkpoint_json(ours: Path, tmp_path: Path) -> None:
    (ours / "checkpoint.json").write_bytes(b"[" * 10**6)
    with bounded(), pytest.raises(UsageError, match=r"checkpoint\.json"):
        to_release(ours, tmp_path / "release", "")
