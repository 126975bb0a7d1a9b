"""clip.load and clip.weights: resolve a model name to a file and load the model."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import clip
from clip import clip as clip_module
from clip import openai, weights
from clip.errors import WeightsError, nearest
from clip.files import EMBEDDING, ROWS
from tests.toy import save_toy_clip, toy_clip, toy_clip_state_dict

SMALL = {"vision_layers": 1, "text_layers": 1}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save_toy_clip(tmp_path / "toy.pt", **SMALL)


def test_weights_are_loaded_exactly_on_the_cpu(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _ = clip.load(str(path), device="cpu")
    assert not model.training
    assert model.dtype == torch.float32
    for name, value in toy_clip_state_dict(**SMALL).items():
        assert torch.equal(model.state_dict()[name], value)  # no detour through fp16
    assert f"{path} (QuickGELU)" in capsys.readouterr().out


def test_path_with_a_tilde_is_expanded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(path.parent))
    assert weights.load_weights("~/toy.pt").source == f"{path}"


def test_models_are_fp16_on_other_devices(path: Path) -> None:
    model, _ = clip.load(path, device=torch.device("meta"))
    assert model.dtype == torch.float16
    assert model.visual.conv1.weight.device.type == "meta"


def test_preprocess(path: Path) -> None:
    """The center of a wide gray image is resized and normalized per channel."""
    _, preprocess = clip.load(path, device="cpu")
    pixels = np.zeros((40, 100), dtype=np.uint8)
    pixels[:, 30:70] = 128
    out = preprocess(Image.fromarray(pixels))
    assert out.shape == (3, 32, 32)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    torch.testing.assert_close(out[:, 16, 16], (128 / 255 - mean) / std)
    assert out[0, 16, 2:30].unique().numel() == 1


def test_jit_raises(path: Path) -> None:
    with pytest.raises(WeightsError, match="jit=True is not supported"):
        clip.load(str(path), jit=True)


def test_weights_of_another_layout_raise_and_name_the_file(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt.*OpenAI's layout"):
        clip.load(tmp_path / "other.pt", device="cpu")


def test_bundled_model_with_a_compact_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights, "_ASSETS", tmp_path)
    full = {name: value.half() for name, value in toy_clip_state_dict(**SMALL).items()}
    rows = torch.tensor([49406, 49407, 320, 2368], dtype=torch.int32)
    compact = {**full, EMBEDDING: full[EMBEDDING][rows.long()], ROWS: rows}
    save_file(compact, tmp_path / "toy-asset.safetensors", metadata={"vocab_size": "49408"})
    assert clip.available_models() == [*openai.MODELS, "toy-asset"]

    model, _ = clip.load("toy-asset", device="cpu")
    assert f"toy-asset from {tmp_path}" in capsys.readouterr().out
    assert model.vocab_size == 49408
    expected = toy_clip(**SMALL)
    expected.load_state_dict(full)
    with torch.no_grad():
        text = clip.tokenize("a cat")
        assert torch.equal(model.encode_text(text), expected.encode_text(text))
    assert not model.token_embedding.weight[5].any()


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Serve a toy model at OpenAI's address of ViT-B/16; return the served file."""
    raw = save_toy_clip(tmp_path / "toy.pt", **SMALL).read_bytes()
    served = tmp_path / "server" / hashlib.sha256(raw).hexdigest() / "ViT-B-16.pt"
    served.parent.mkdir(parents=True)
    served.write_bytes(raw)
    monkeypatch.setitem(openai.MODELS, "ViT-B/16", served.as_uri())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return served


def test_named_model_is_downloaded_to_the_cache(released: Path, tmp_path: Path) -> None:
    cached = tmp_path / "home/.cache/clip/ViT-B-16.pt"
    assert weights.load_weights("ViT-B/16").source == f"OpenAI's ViT-B/16 from {cached}"
    other = tmp_path / "elsewhere"
    clip.load("ViT-B/16", device="cpu", download_root=other)
    assert (other / "ViT-B-16.pt").read_bytes() == cached.read_bytes() == released.read_bytes()


def test_a_file_in_the_folder_clip_is_used_first(released: Path, tmp_path: Path) -> None:
    local = tmp_path / "work/clip/ViT-B-16.pt"
    local.parent.mkdir()
    local.write_bytes(released.read_bytes())
    released.unlink()
    assert weights.load_weights("ViT-B/16").source == "OpenAI's ViT-B/16 from clip/ViT-B-16.pt"
    local.write_bytes(b"something else")
    with pytest.raises(WeightsError, match=r"clip/ViT-B-16\.pt is not OpenAI's file"):
        weights.load_weights("ViT-B/16")


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_coop_trainer_loads_its_backbone(released: Path) -> None:
    """The code has the shape of CoOp's load_clip_to_cpu, which its successors copy."""
    url = clip_module._MODELS["ViT-B/16"]
    model_path = clip_module._download(url)
    with pytest.raises(RuntimeError):
        torch.jit.load(model_path, map_location="cpu")  # a plain state dict is no archive
    state_dict = torch.load(model_path, map_location="cpu")
    model = clip_module.build_model(state_dict)
    assert model.dtype == torch.float16
    prompts = torch.cat([clip_module.tokenize(name) for name in ("a cat.", "a dog.")])
    with torch.no_grad():
        assert model.token_embedding(prompts).type(model.dtype).shape == (2, 77, 64)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-B16", "no model 'ViT-B16'; did you mean 'ViT-B/16'"),
        ("vit-b/32", "did you mean 'ViT-B/32'"),
        ("resnet", r"allowed: RN101, .*ViT-L/14@336px.*ARCHITECTURE:TAG"),
        ("weights/none.pt", r"there is no file weights/none\.pt \(working folder: /"),
    ],
)
def test_unknown_names_raise(name: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        clip.load(name)


def test_nearest() -> None:
    assert nearest("rn5", ["RN50", "ViT"]) == "did you mean 'RN50'? allowed: RN50, ViT"
    assert nearest("zzz", ["RN50", "ViT"]) == "allowed: RN50, ViT"


def test_names_imported_by_coop() -> None:
    names = ("_MODELS", "_download", "available_models", "build_model", "load", "tokenize")
    for name in names:
        assert getattr(clip, name) is getattr(clip_module, name)
    assert clip.clip is clip_module
