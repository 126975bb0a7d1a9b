"""Checkpoint files: their bytes, and their pickles with optimizers and schedulers."""

from pathlib import Path

import pytest
import torch

from dassl.utils import UsageError
from dassl.utils.checkpoint import load_run_checkpoint
from dassl.utils.safe_load import safe_torch_load
from tests.fuzz.archives import (
    PICKLES,
    archive_of,
    legacy_of,
    members,
    saved,
    write_inside,
    zip_bomb,
)
from tests.fuzz.harness import bounded, fuzz

NAME = "model.pth.tar-1"


def checkpoint() -> dict[str, object]:
    """Return a checkpoint with live objects, as CoOp writes it, after one step."""
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2])
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    schedule.step()
    return {
        "state_dict": module.state_dict(),
        "epoch": 1,
        "optimizer": optimizer.state_dict(),
        "scheduler": schedule.state_dict(),
        "val_result": None,
        "random_state": torch.get_rng_state()[:64],
    }


def with_objects() -> dict[str, object]:
    """Return a checkpoint with an optimizer itself."""
    content = checkpoint()
    return {**content, "optimizer": torch.optim.Adam([torch.nn.Parameter(torch.ones(2))])}


def test_archives(tmp_path: Path) -> None:
    seeds = [saved(checkpoint()), saved(with_objects())]
    fuzz(load_run_checkpoint, seeds, tmp_path, NAME, (UsageError,))


def test_legacy_files(tmp_path: Path) -> None:
    seeds = [saved(checkpoint(), zipped=False)]
    fuzz(load_run_checkpoint, seeds, tmp_path, NAME, (UsageError,))


def test_pickles_in_archives(tmp_path: Path) -> None:
    archive = members(saved(with_objects()))
    pickled = next(raw for name, raw in archive.items() if name.endswith("/data.pkl"))

    def read(path: Path) -> None:
        load_run_checkpoint(write_inside(tmp_path / NAME, archive, path.read_bytes()))

    fuzz(read, [pickled], tmp_path, "data.pkl", (UsageError,))


@pytest.mark.parametrize("wrap", [archive_of, legacy_of])
@pytest.mark.parametrize("name", PICKLES)
def test_hostile_pickles(tmp_path: Path, name: str, wrap) -> None:
    (tmp_path / NAME).write_bytes(wrap(PICKLES[name]))
    with bounded(), pytest.raises(UsageError) as error:
        safe_torch_load(tmp_path / NAME)
    assert NAME in str(error.value)
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("exec", "refused to load .*'builtins.exec', which could run code"),
        ("deep key", "objects nested more than 100 times"),
        ("deep lists", "objects nested more than 100 times"),
        ("memo", "claims 1,073,741,824 entries in"),
        ("stride 0", r"shape \(1000000000,\) and stride \(0,\), out of bounds"),
        ("size", "out of bounds of its storage of 4 elements"),
        ("storage", "16 bytes for its tensor 0 of 40,000,000,000 bytes"),
        ("storage set again", "sets the storage of a tensor a second time"),
        ("bytearray", "the pickle instruction FRAME|BYTEARRAY8|damaged"),
    ],
)
def test_reasons(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / NAME).write_bytes(archive_of(PICKLES[name]))
    with bounded(), pytest.raises(UsageError, match=reason):
        safe_torch_load(tmp_path / NAME)


def test_legacy_file_that_claims_more_than_it_has(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(legacy_of(PICKLES["storage"]))
    with bounded(), pytest.raises(UsageError, match="claim 40,000,000,000 bytes, but the file has"):
        safe_torch_load(tmp_path / NAME)


def test_zip_bomb(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(zip_bomb(saved(checkpoint())))
    with bounded(), pytest.raises(UsageError, match="is compressed, which PyTorch never does"):
        safe_torch_load(tmp_path / NAME)


def test_tensors_may_share_a_storage_and_be_views(tmp_path: Path) -> None:
    """What is refused is not what PyTorch writes."""
    whole = torch.arange(12.0).view(3, 4)
    content = {
        "whole": whole, "view": whole.t()[1:], "empty": torch.zeros(0, 3), "scalar": whole[0, 0],
        "parameter": torch.nn.Parameter(whole), "bytes": b"\xff\x00", "set": {1, 2},
        "size": whole.size(), "type": torch.float16, "device": torch.device("cpu"),
    }  # fmt: skip
    for zipped in (True, False):
        (tmp_path / NAME).write_bytes(saved(content, zipped))
        loaded = safe_torch_load(tmp_path / NAME)
        assert loaded.keys() == content.keys()
        for key, value in content.items():
            same = torch.equal(loaded[key], value) if torch.is_tensor(value) else None
            assert same or loaded[key] == value, key
