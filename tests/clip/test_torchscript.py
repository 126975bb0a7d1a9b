"""TorchScript archives are read without torch.jit."""

import io
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from clip.errors import WeightsError
from clip.files import read_state_dict
from clip.model import build_model
from tests.toy import toy_clip

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]


class OpenAIsModel(nn.Module):
    """The contents of OpenAI's archives: CLIP, and its sizes as tensors."""

    def __init__(self) -> None:
        super().__init__()
        model = toy_clip(vision_layers=1, text_layers=2)
        for name, child in model.named_children():
            self.add_module(name, child)
        for name in ("positional_embedding", "text_projection", "logit_scale"):
            self.register_parameter(name, getattr(model, name))
        self.visual.half()
        self.register_buffer("input_resolution", torch.tensor(32))
        self.register_buffer("context_length", torch.tensor(77))
        self.register_buffer("vocab_size", torch.tensor(49408))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.visual(image)


class Settings(nn.Module):
    """A module with attributes of every kind; only parameters and buffers are weights."""

    integers: list[int]
    tensors: list[torch.Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.integers, self.floats, self.flags = [1, 2], [0.5], [True]
        self.tensors, self.names = [torch.ones(2)], ["a"]
        self.table, self.pair, self.device = {"a": 1}, (1, "b"), torch.device("cpu")
        self.linear = nn.Linear(2, 3).to(torch.bfloat16)
        self.tied = self.linear
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("view", torch.arange(12).view(3, 4).t()[1:])
        self.register_buffer("empty", torch.zeros(0))

    def forward(self) -> list[int]:
        return self.integers


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("jit") / "toy.pt"
    image = torch.zeros(1, 3, 32, 32, dtype=torch.float16)
    torch.jit.trace(OpenAIsModel(), image, check_trace=False).save(path)
    return path


def assert_equal_weights(path: Path) -> None:
    expected = torch.jit.load(path).state_dict()
    got = read_state_dict(path)
    assert got.keys() == {name for name in expected if not name.endswith("attn_mask")}
    for name, value in got.items():
        assert value.dtype == expected[name].dtype
        assert torch.equal(value, expected[name])


def test_the_weights_of_a_traced_clip(archive: Path) -> None:
    assert_equal_weights(archive)
    model = build_model(read_state_dict(archive), fp16=False)
    expected = toy_clip(vision_layers=1, text_layers=2)
    assert torch.equal(model.token_embedding.weight, expected.token_embedding.weight)


def test_the_weights_of_a_scripted_module(tmp_path: Path) -> None:
    torch.jit.script(Settings()).save(tmp_path / "settings.pt")
    assert_equal_weights(tmp_path / "settings.pt")


def replace(archive: Path, target: Path, changes: dict[str, bytes]) -> Path:
    """Copy the archive with other bytes for the members that end in these names."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            ending = next((each for each in changes if name.endswith("/" + each)), None)
            new.writestr(name, changes[ending] if ending else old.read(name))
    return target


class Call:
    """Pickle to a call of ``function(*arguments)``."""

    def __init__(self, function, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "name"),
    [(exec, "builtins.exec"), (shutil.rmtree, "shutil.rmtree"), (getattr, "builtins.getattr")],
)
def test_pickles_with_code_raise_and_are_not_executed(
    archive: Path, tmp_path: Path, function, name: str
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    argument = f"import os; os.rmdir({str(victim)!r})" if function is exec else str(victim)
    evil = pickle.dumps(Call(function, argument))
    path = replace(archive, tmp_path / "evil.pt", {"data.pkl": evil})
    with pytest.raises(WeightsError, match=f"names {name}, .* was not executed"):
        read_state_dict(path)
    assert victim.is_dir()


def rebuild(state: str) -> bytes:
    """A pickle that tries to set attributes on the function that rebuilds tensors."""
    text = f"ctorch._utils\n_rebuild_tensor_v2\n{state}."
    return text.encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"not a pickle", "data.pkl cannot be read"),
        (b"", "data.pkl cannot be read"),
        (pickle.dumps({"a": 1}), "contains dict instead of a module"),
        (rebuild("(dS'__call__'\nS'x'\nsb"), "data.pkl cannot be read"),
        (rebuild("(NdS'__call__'\nS'x'\nstb"), "data.pkl cannot be read"),
    ],
)
def test_other_pickles_raise(archive: Path, tmp_path: Path, data: bytes, message: str) -> None:
    path = replace(archive, tmp_path / "odd.pt", {"data.pkl": data})
    with pytest.raises(WeightsError, match=message):
        read_state_dict(path)


class _Storages(pickle.Pickler):
    """Write a tensor's storage as TorchScript does, with arbitrary sizes."""

    def persistent_id(self, value: object) -> object:
        return value.pid if isinstance(value, _Storage) else None


class _Storage:
    def __init__(self, numel: int) -> None:
        self.pid = ("storage", torch.FloatStorage, "0", "cpu", numel)


def tensor_pickle(numel: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    arguments = (_Storage(numel), 0, size, stride, False, None)
    _Storages(buffer, protocol=2).dump(Call(torch._utils._rebuild_tensor_v2, *arguments))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tensor_pickle(8, (4,), (1,)), "16 bytes instead of 8 torch.float32"),
        (tensor_pickle(4, (1000,), (1,)), "out of bounds"),
    ],
)
def test_tensor_larger_than_its_storage_raises(
    archive: Path, tmp_path: Path, data: bytes, message: str
) -> None:
    path = replace(archive, tmp_path / "lie.pt", {"data.pkl": data, "data/0": bytes(16)})
    with pytest.raises(WeightsError, match=message):
        read_state_dict(path)


def test_a_missing_tensor_is_named(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "less.pt"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            if not name.endswith("data/3"):
                new.writestr(name, old.read(name))
    with pytest.raises(WeightsError, match="data/3"):
        read_state_dict(path)


def test_corrupt_bytes_are_detected(archive: Path, tmp_path: Path) -> None:
    raw = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as file:
        largest = max(file.infolist(), key=lambda info: info.file_size)
    raw[largest.header_offset + largest.file_size // 2] ^= 0xFF
    path = tmp_path / "flipped.pt"
    path.write_bytes(raw)
    with pytest.raises(WeightsError, match="Bad CRC-32"):
        read_state_dict(path)


def test_truncated_archives_raise(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    path.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="is truncated"):
        read_state_dict(path)
