"""Entries of the feature store: a damaged one is computed again, whatever the damage."""

from pathlib import Path

import pytest
import torch

from tests.fuzz.harness import bounded, fuzz
from trainers.feature_store.array_store import ArrayStore

FACTS = {"what": "image", "model": "toy", "times": "0"}
ROWS = {"pooled": torch.arange(8.0).view(2, 4), "saliency": torch.ones(2, 3).half()}


def get(folder: Path) -> dict[str, torch.Tensor]:
    """Read the entry, and check that it has the rows that were computed."""
    arrays = ArrayStore(str(folder), "DATALOADER.FEATURE_STORE").get(FACTS, 2, lambda: [ROWS])
    assert arrays.keys() == ROWS.keys()
    for name, rows in ROWS.items():
        assert torch.equal(arrays[name], rows)
    return arrays


def test_entries(tmp_path: Path) -> None:
    get(tmp_path)
    (entry,) = tmp_path.glob("*.safetensors")
    fuzz(lambda path: get(path.parent), [entry.read_bytes()], tmp_path, entry.name, ())


def test_other_entries(tmp_path: Path) -> None:
    """Entries of other facts are opened to say which is outdated."""
    get(tmp_path)
    (entry,) = tmp_path.glob("*.safetensors")

    def read(path: Path) -> None:
        entry.unlink(missing_ok=True)
        get(path.parent)

    fuzz(read, [entry.read_bytes()], tmp_path, "image-0123.safetensors", ())


@pytest.mark.parametrize("header", [b"[" * 10_000, b'{"__metadata__": {"facts": "' + b"[" * 10_000])
def test_hostile_headers(tmp_path: Path, header: bytes) -> None:
    get(tmp_path)
    (entry,) = tmp_path.glob("*.safetensors")
    for name in (entry.name, "image-0123.safetensors"):
        (tmp_path / name).write_bytes(len(header).to_bytes(8, "little") + header)
    with bounded():
        get(tmp_path)


def test_facts_that_are_nested_deeply(tmp_path: Path) -> None:
    """A header that is valid, with facts that Python's parser of JSON cannot read."""
    from safetensors.torch import save

    (tmp_path / "image-0123.safetensors").write_bytes(save(ROWS, metadata={"facts": "[" * 10**5}))
    get(tmp_path)
