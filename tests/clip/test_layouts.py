"""Weights under other names than OpenAI's: prefixes, wrappers, open_clip and Hugging Face."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import clip
from clip.errors import WeightsError
from clip.model import QuickGELU, build_model
from dassl.utils import UsageError
from tests.toy import toy_clip, toy_clip_state_dict
from tests.toy_huggingface import as_hugging_face, config

State = dict[str, Tensor]
SIZES = {"vision_layers": 2, "text_layers": 1, "vision_width": 128}


@pytest.fixture(scope="module")
def weights() -> State:
    return toy_clip_state_dict(**SIZES)


def assert_same(path: Path, weights: State) -> None:
    """Check that clip.load builds the model of these weights."""
    model, _ = clip.load(str(path), device="cpu")
    state = model.state_dict()
    assert state.keys() == weights.keys()
    for name, value in weights.items():
        assert torch.equal(state[name], value), name


def prefixed(prefix: str) -> Callable[[State], object]:
    return lambda weights: {prefix + name: value for name, value in weights.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        prefixed("model."),
        prefixed("clip_model."),
        prefixed("_orig_mod."),
        prefixed("module._orig_mod.model."),
        prefixed("model._orig_mod.module.clip."),
        lambda w: {"epoch": 3, "model": w},
        lambda w: {"epoch": 3, "model_state_dict": prefixed("module.")(w), "loss": 0.5},
        lambda w: {"model": {"state_dict": w}, "args": ["--lr", "1"]},
        lambda w: {
            (k if k.startswith("visual.") or k == "logit_scale" else f"text.{k}"): v
            for k, v in w.items()
        },
        lambda w: {**w, "attn_mask": torch.zeros(77, 77).fill_(-torch.inf)},
        lambda w: {**w, "text_model.embeddings.position_ids": torch.arange(77)[None]},
    ],
    ids=[
        "model", "clip_model", "compiled", "nested", "nested2", "in model", "in model_state_dict",
        "in both", "CustomTextCLIP", "attn_mask", "position_ids",
    ],
)  # fmt: skip
def test_common_files_load(weights: State, tmp_path: Path, wrap: Callable) -> None:
    torch.save(wrap(weights), tmp_path / "weights.pt")
    assert_same(tmp_path / "weights.pt", weights)


def test_buffers_that_are_left_out_are_printed(
    weights: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({**weights, "attn_mask": torch.zeros(77, 77)}, tmp_path / "weights.pt")
    clip.load(str(tmp_path / "weights.pt"), device="cpu")
    assert "left out attn_mask of " in capsys.readouterr().out


def part(prefix: str) -> Callable[[State], State]:
    return lambda weights: {k: v for k, v in weights.items() if k.startswith(prefix)}


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (part("visual."), "has only the image encoder of a CLIP, without the text encoder"),
        (part("transformer."), "has only the text encoder of a CLIP, without the image encoder"),
        (prefixed("student."), "names begin with 'student.'.*not one of the known prefixes"),
        (lambda w: {**w, "logit_bias": torch.zeros(1)}, "has a logit_bias, so it is a SigLIP"),
        (
            lambda w: {**part("visual.")(w), "text.transformer.embeddings.weight": torch.ones(2)},
            r"text encoder is not CLIP's transformer \(text.transformer.resblocks\)",
        ),
        (
            lambda w: {**as_hugging_face(w), "vision_model.head.weight": torch.ones(2)},
            "has vision_model.head.weight, which transformers' CLIPModel does not have",
        ),
        (
            lambda w: {k: v for k, v in as_hugging_face(w).items() if "vision" in k},
            "lacks text_model.embeddings.token_embedding.weight.* of transformers' CLIPModel",
        ),
        (
            lambda w: {k: v for k, v in as_hugging_face(w).items() if "k_proj.bias" not in k},
            r"k_proj\.bias and v_proj\.bias of visual.transformer.resblocks.0 do not fit",
        ),
    ],
)
def test_other_files_are_named(
    weights: State, tmp_path: Path, wrap: Callable, message: str
) -> None:
    torch.save(wrap(weights), tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=rf"weights\.pt.*{message}"):
        clip.load(str(tmp_path / "weights.pt"), device="cpu")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_that_are_not_finite_are_named(
    weights: State, tmp_path: Path, value: float, dtype: torch.dtype
) -> None:
    spoiled = {name: tensor.to(dtype, copy=True) for name, tensor in weights.items()}
    spoiled["visual.proj"][1, 2] = value
    torch.save(spoiled, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=r"weights\.pt: visual\.proj has values .*not finite"):
        clip.load(str(tmp_path / "weights.pt"), device="cpu")


def test_whole_numbers_are_not_weights(weights: State) -> None:
    with pytest.raises(WeightsError, match=r"visual\.proj has the type torch\.int64"):
        build_model({**weights, "visual.proj": weights["visual.proj"].long()})


def save_folder(folder: Path, weights: State, activation: str, heads: tuple[int, int]) -> Path:
    """Write Hugging Face's folder with the buffers of its older versions."""
    folder.mkdir(exist_ok=True)
    state = as_hugging_face(weights)
    for tower, length in (("text", 77), ("vision", 17)):
        state[f"{tower}_model.embeddings.position_ids"] = torch.arange(length)[None]
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config(32, activation, heads)))
    return folder


@pytest.mark.parametrize("name", ["", "model.safetensors", "pytorch_model.bin", "weights.pt"])
def test_hugging_face_files_load(weights: State, tmp_path: Path, name: str) -> None:
    folder = save_folder(tmp_path / "hf", weights, "quick_gelu", (2, 1))
    if name.endswith((".bin", ".pt")):
        torch.save(as_hugging_face(weights), folder / name)
        (folder / "model.safetensors").unlink()
    assert_same(folder / name, weights)
    if name == "pytorch_model.bin":
        assert_same(folder, weights)


@pytest.mark.parametrize(("activation", "kind"), [("gelu", nn.GELU), ("quick_gelu", QuickGELU)])
def test_config_states_activation_and_heads(
    weights: State, tmp_path: Path, activation: str, kind: type, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _ = clip.load(str(save_folder(tmp_path, weights, activation, (8, 4))), device="cpu")
    block = model.visual.transformer.resblocks[0]
    assert type(block.mlp.gelu) is kind
    assert type(model.transformer.resblocks[0].mlp.gelu) is kind
    assert block.attn.num_heads == 8
    assert model.transformer.resblocks[0].attn.num_heads == 4
    assert f"({'GELU' if kind is nn.GELU else 'QuickGELU'})" in capsys.readouterr().out


def test_without_a_config_the_assumption_is_printed(
    weights: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(as_hugging_face(weights), tmp_path / "weights.safetensors")
    model, _ = clip.load(str(tmp_path / "weights.safetensors"), device="cpu")
    assert "(QuickGELU, assumed, as there is no config.json beside it)" in capsys.readouterr().out
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.encode_image(image), toy_clip(**SIZES).encode_image(image))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "siglip"}, "describes a 'siglip', not a 'clip'"),
        ({"projection_dim": 64}, "states a projection_dim of 64, but the weights have 32"),
        ({"text_config": {"hidden_act": "gelu"}}, "'quick_gelu' .image. and 'gelu' .text."),
        ({"vision_config": {"layer_norm_eps": 1e-6}}, "layer_norm_eps other than 1e-05"),
        ({"vision_config": {"num_attention_heads": "8"}}, "is not valid .*num_attention_heads"),
        ({"vision_config": {"num_attention_heads": 0}}, "is not valid .*num_attention_heads"),
        ({"vision_config": {"num_attention_heads": 7}}, "7 heads do not divide the image"),
    ],
)
def test_config_of_other_models_raises(
    weights: State, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    folder = save_folder(tmp_path, weights, "quick_gelu", (2, 1))
    (folder / "config.json").write_text(json.dumps(config(32) | change))
    with pytest.raises(UsageError, match=message):
        clip.load(str(folder), device="cpu")


def test_folder_without_weights_lists_the_names(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"has none of model\.safetensors, pytorch_model\.bin"):
        clip.load(str(tmp_path), device="cpu")
