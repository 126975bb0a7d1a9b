import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from clip.errors import WeightsError
from clip.files import EMBEDDING, ROWS, read_state_dict

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor(7, dtype=torch.int64)}


def assert_weights(got: dict[str, torch.Tensor]) -> None:
    assert got.keys() == WEIGHTS.keys()
    for name, value in WEIGHTS.items():
        assert got[name].dtype == value.dtype
        assert torch.equal(got[name], value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 3, "optimizer": {"lr": 0.1}},
        {f"module.{name}": value for name, value in WEIGHTS.items()},
    ],
    ids=["plain", "checkpoint", "data-parallel"],
)
def test_pytorch_files(tmp_path: Path, content: dict, zipped: bool) -> None:
    path = tmp_path / "weights.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert_weights(read_state_dict(path))
    assert_weights(read_state_dict(str(path)))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin"])
def test_safetensors(tmp_path: Path, name: str) -> None:
    save_file(WEIGHTS, tmp_path / name)
    assert_weights(read_state_dict(tmp_path / name))


def compact(path: Path, rows: list[int], vocab_size: str | None = "9") -> Path:
    tensors = {
        EMBEDDING: torch.arange(1.0, 7.0).view(3, 2).half(),
        ROWS: torch.tensor(rows, dtype=torch.int32),
        "other": torch.ones(1),
    }
    save_file(tensors, path, metadata=None if vocab_size is None else {"vocab_size": vocab_size})
    return path


def test_a_compact_vocabulary_is_expanded_with_zeros(tmp_path: Path) -> None:
    got = read_state_dict(compact(tmp_path / "compact.safetensors", rows=[8, 0, 3]))
    expected = torch.zeros(9, 2, dtype=torch.float16)
    expected[8], expected[0], expected[3] = (
        torch.tensor(pair) for pair in ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0))
    )
    assert got.keys() == {EMBEDDING, "other"}
    assert got[EMBEDDING].dtype == torch.float16
    assert torch.equal(got[EMBEDDING], expected)


@pytest.mark.parametrize(
    ("rows", "vocab_size", "message"),
    [
        ([0, 1], "9", "one distinct id"),
        ([0, 1, 1], "9", "one distinct id"),
        ([0, 1, 9], "9", "outside its vocab_size, 9"),
        ([0, 1, -1], "9", "outside its vocab_size, 9"),
        ([0, 1, 2], None, "outside its vocab_size, 0"),
    ],
)
def test_invalid_compact_vocabulary_raises(
    tmp_path: Path, rows: list[int], vocab_size: str | None, message: str
) -> None:
    path = compact(tmp_path / "compact.safetensors", rows, vocab_size)
    with pytest.raises(WeightsError, match=message):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "it is a web page"),
        (b"<html><head></head></html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "git lfs pull"),
        (b"PK\x03\x04 and then nothing", "is truncated"),
        (b"\x00\x01\x02 neither this nor that", "damaged, or contains more than tensors"),
        (b"root:x:0:0:root:/root:/bin/bash\n", "damaged, or contains more than tensors"),
        (b"torch==2.4\n", "damaged, or contains more than tensors"),
        (b"\xff\x00\x00\x00\x00\x00\x00\x00{", "safetensors reports"),
    ],
)
def test_files_without_weights_raise_a_clear_error(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "ViT-B-16.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as error:
        read_state_dict(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", ["weights.pt", "legacy.pt", "weights.safetensors"])
def test_truncated_files_raise(tmp_path: Path, name: str, share: float) -> None:
    tensors = {"weight": torch.randn(64, 64)}
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=name != "legacy.pt")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(WeightsError, match="cannot read CLIP weights from"):
        read_state_dict(path)


def test_other_zip_archives_raise(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.pt", "w") as archive:
        archive.writestr("photos/one.jpg", b"...")
    with pytest.raises(WeightsError, match=r"without data\.pkl"):
        read_state_dict(tmp_path / "photos.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "contains a list instead of a state dict"),
        ({"weight": torch.ones(1), "epoch": 3}, "'epoch' is not a tensor"),
        ({"state_dict": {"weight": 1.0}}, "'weight' is not a tensor"),
        (nn.Linear(2, 2), "save model.state_dict"),
    ],
)
def test_other_pickles_raise(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=message):
        read_state_dict(tmp_path / "weights.pt")


class Evil:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return Path.rmdir, (self.victim,)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_pickles_with_code_raise_and_are_not_executed(tmp_path: Path, writer: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    content = {"weight": torch.ones(1), "payload": Evil(victim)}
    path = tmp_path / "evil.pt"
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(WeightsError, match="more than tensors"):
        read_state_dict(path)
    assert victim.is_dir()
