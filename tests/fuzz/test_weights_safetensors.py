"""Weights files of safetensors, with a compact vocabulary as in assets/."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from clip.errors import WeightsError
from clip.files import EMBEDDING, ROWS
from tests.fuzz.harness import bounded, fuzz
from tests.fuzz.tiny_clip import build, tiny_weights


def compact(vocab_size: str = "12") -> bytes:
    weights = tiny_weights()
    rows = torch.tensor([0, 3, 11], dtype=torch.int32)
    weights |= {EMBEDDING: weights[EMBEDDING][rows.long()], ROWS: rows}
    return save(weights, metadata={"vocab_size": vocab_size})


def test_files(tmp_path: Path) -> None:
    seeds = [compact(), save(tiny_weights())]
    fuzz(build, seeds, tmp_path, "weights.safetensors", (WeightsError,))


def test_headers(tmp_path: Path) -> None:
    """Mutants of the header, with a length that fits."""
    whole = compact()
    length = int.from_bytes(whole[:8], "little")
    header, body = whole[8 : 8 + length], whole[8 + length :]

    def read(path: Path) -> None:
        text = path.read_bytes()
        target = tmp_path / "weights.safetensors"
        target.write_bytes(len(text).to_bytes(8, "little") + text + body)
        build(target)

    fuzz(read, [header], tmp_path, "header", (WeightsError,))


@pytest.mark.parametrize("size", ["1000000000000", "1000001", "-1", "1e6", "", "9" * 400])
def test_vocabulary_beyond_its_limit(tmp_path: Path, size: str) -> None:
    (tmp_path / "weights.safetensors").write_bytes(compact(size))
    with bounded(), pytest.raises(WeightsError, match="must be a number up to 1,000,000"):
        build(tmp_path / "weights.safetensors")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 2**50]},
        {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
    ],
)
def test_headers_that_claim_too_much(tmp_path: Path, entry: dict[str, object]) -> None:
    text = json.dumps({"a": entry}).encode()
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    with bounded(), pytest.raises(WeightsError, match=r"weights\.safetensors"):
        build(path)
