"""TorchScript archives, which OpenAI's files are."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from clip.errors import WeightsError
from clip.files import read_state_dict
from tests.fuzz.archives import PICKLES, members, repacked, write_inside, zip_bomb
from tests.fuzz.harness import bounded, fuzz


class Toy(nn.Module):
    """Attributes as in OpenAI's archives: submodules, weights, buffers and settings."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Sequential(nn.Conv2d(3, 2, 2, bias=False), nn.BatchNorm2d(2)).half()
        self.heads, self.device = [1, 2], torch.device("cpu")
        self.register_buffer("attn_mask", torch.zeros(2, 2))
        self.text_projection = nn.Parameter(torch.ones(2, 2))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("jit") / "toy.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Toy()).save(path)
    return path.read_bytes()


def test_archives(archive: bytes, tmp_path: Path) -> None:
    fuzz(read_state_dict, [archive], tmp_path, "toy.pt", (WeightsError,))


def test_pickles_in_archives(archive: bytes, tmp_path: Path) -> None:
    content = members(archive)
    pickled = next(raw for name, raw in content.items() if name.endswith("/data.pkl"))

    def read(path: Path) -> None:
        read_state_dict(write_inside(tmp_path / "toy.pt", content, path.read_bytes()))

    fuzz(read, [pickled], tmp_path, "data.pkl", (WeightsError,))


@pytest.mark.parametrize("name", PICKLES)
def test_hostile_pickles(archive: bytes, tmp_path: Path, name: str) -> None:
    changes = {"data.pkl": PICKLES[name], "data/0": bytes(16)}
    (tmp_path / "toy.pt").write_bytes(repacked(members(archive), changes))
    with bounded(), pytest.raises(WeightsError, match=r"weights from .*toy\.pt: "):
        read_state_dict(tmp_path / "toy.pt")


def test_zip_bomb(archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "toy.pt").write_bytes(zip_bomb(archive))
    with bounded(), pytest.raises(WeightsError, match="is compressed, which PyTorch never does"):
        read_state_dict(tmp_path / "toy.pt")


def test_modules_that_contain_themselves(archive: bytes, tmp_path: Path) -> None:
    """A module among its own attributes: {"a": itself}."""
    pickled = b"\x80\x02c__torch__\nM\n)\x81q\x01}X\x01\x00\x00\x00ah\x01sb."
    (tmp_path / "toy.pt").write_bytes(repacked(members(archive), {"data.pkl": pickled}))
    with bounded(), pytest.raises(WeightsError, match="nested more than 100 times"):
        read_state_dict(tmp_path / "toy.pt")
