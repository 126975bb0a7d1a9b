"""Weights in the layout of transformers' CLIPModel, and the config.json beside them."""

import json
from pathlib import Path

import pytest
from safetensors.torch import save

from clip.errors import WeightsError
from dassl.utils import UsageError
from tests.fuzz.harness import bounded, fuzz
from tests.fuzz.tiny_clip import build, tiny_weights
from tests.fuzz.values import UNCHANGED, changed
from tests.toy_huggingface import as_hugging_face, config

WEIGHTS = as_hugging_face(tiny_weights())
CONFIG = json.dumps(config(projection_dim=4, heads=(2, 4))).encode()


def test_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(CONFIG)
    fuzz(build, [save(WEIGHTS)], tmp_path, "model.safetensors", (WeightsError,))


def test_tensors(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(CONFIG)

    def read(path: Path) -> None:
        tensors = changed(WEIGHTS, path.read_bytes())
        values = {str(k): v.contiguous() for k, v in tensors.items() if hasattr(v, "contiguous")}
        (tmp_path / "model.safetensors").write_bytes(save(values))
        build(tmp_path / "model.safetensors")

    fuzz(read, [UNCHANGED], tmp_path, "seed", (WeightsError,))


def test_configs(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(save(WEIGHTS))

    def read(path: Path) -> None:
        build(path.parent)

    fuzz(read, [CONFIG], tmp_path, "config.json", (UsageError,))


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b'{"text_config": ' * 50_000, b"\xff", b"", b'{"vision_config": [1]}']
)
def test_hostile_configs(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(save(WEIGHTS))
    (tmp_path / "config.json").write_bytes(text)
    with bounded(), pytest.raises(UsageError, match=r"config\.json"):
        build(tmp_path)
