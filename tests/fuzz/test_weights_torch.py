"""Weights files of torch.save, in the zip format and in that before PyTorch 1.6."""

from pathlib import Path

import pytest

from clip.errors import WeightsError
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
from tests.fuzz.tiny_clip import build, tiny_weights

CONTENT = tiny_weights()
SEEDS = [saved(CONTENT), saved({"state_dict": {f"module.{k}": v for k, v in CONTENT.items()}})]


def test_archives(tmp_path: Path) -> None:
    fuzz(build, SEEDS, tmp_path, "weights.pt", (WeightsError,))


def test_legacy_files(tmp_path: Path) -> None:
    fuzz(build, [saved(CONTENT, zipped=False)], tmp_path, "weights.pt", (WeightsError,))


def test_pickles_in_archives(tmp_path: Path) -> None:
    archive = members(SEEDS[0])
    pickled = next(raw for name, raw in archive.items() if name.endswith("/data.pkl"))

    def read(path: Path) -> None:
        build(write_inside(tmp_path / "weights.pt", archive, path.read_bytes()))

    fuzz(read, [pickled], tmp_path, "data.pkl", (WeightsError,))


@pytest.mark.parametrize("wrap", [archive_of, legacy_of])
@pytest.mark.parametrize("name", PICKLES)
def test_hostile_pickles(tmp_path: Path, name: str, wrap) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(wrap(PICKLES[name]))
    with bounded(), pytest.raises(WeightsError, match=r"weights from .*weights\.pt: "):
        build(path)


def test_zip_bomb(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(zip_bomb(SEEDS[0]))
    with bounded(), pytest.raises(WeightsError, match="is compressed, which PyTorch never does"):
        build(tmp_path / "weights.pt")
