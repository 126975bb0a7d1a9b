"""The encoders match open_clip's for the same weights."""

import math

import open_clip
import pytest
import torch
from torch import nn

from clip.errors import WeightsError
from clip.model import (
    CLIP,
    LayerNorm,
    ModifiedResNet,
    QuickGELU,
    VisionTransformer,
    build_model,
    convert_weights,
    infer_sizes,
)
from tests.toy import toy_clip, toy_clip_state_dict, toy_resnet, toy_resnet_state_dict


def texts(*lengths: int) -> torch.Tensor:
    """Return random token ids with the end-of-text token at these positions."""
    ids = torch.zeros(len(lengths), 77, dtype=torch.int)
    generator = torch.Generator().manual_seed(0)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = torch.randint(1, 49000, (length,), generator=generator)
        row[0], row[length] = 49406, 49407
    return ids


def images(size: int, number: int = 2) -> torch.Tensor:
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(1))


def their_clip(vision: dict, text: dict, embed_dim: int, quick_gelu: bool) -> nn.Module:
    model = open_clip.CLIP(
        embed_dim=embed_dim,
        vision_cfg=open_clip.CLIPVisionCfg(**vision),
        text_cfg=open_clip.CLIPTextCfg(**text),
        quick_gelu=quick_gelu,
    )
    return model.eval()


@torch.no_grad()
def assert_same(ours: CLIP, theirs: nn.Module, size: int) -> None:
    theirs.load_state_dict(ours.state_dict(), strict=True)
    image, text = images(size), texts(3, 20, 76)
    torch.testing.assert_close(
        ours.encode_image(image), theirs.encode_image(image), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        ours.encode_text(text), theirs.encode_text(text), rtol=1e-5, atol=1e-5
    )
    logits, transposed = ours(image, text)
    torch.testing.assert_close(logits, theirs.get_logits(image, text)[0], rtol=1e-5, atol=1e-4)
    assert torch.equal(logits.t(), transposed)


@pytest.mark.parametrize("quick_gelu", [True, False])
@pytest.mark.parametrize(("width", "patch", "size"), [(64, 8, 32), (128, 16, 64)])
def test_vit_equals_open_clip(width: int, patch: int, size: int, quick_gelu: bool) -> None:
    state_dict = toy_clip_state_dict(
        image_resolution=size, patch_size=patch, vision_width=width, text_width=128, embed_dim=48
    )
    theirs = their_clip(
        {"layers": 3, "width": width, "patch_size": patch, "image_size": size},
        {"layers": 3, "width": 128, "heads": 2},
        embed_dim=48,
        quick_gelu=quick_gelu,
    )
    ours = build_model(state_dict, quick_gelu=quick_gelu, fp16=False)
    assert_same(ours, theirs, size)


def test_resnet_equals_open_clip() -> None:
    ours = toy_resnet(layers=(1, 2, 1, 3), width=16, image_resolution=64)
    theirs = their_clip(
        {"layers": (1, 2, 1, 3), "width": 16, "image_size": 64},
        {"layers": 3, "width": 64, "heads": 1},
        embed_dim=32,
        quick_gelu=True,
    )
    assert_same(ours, theirs, size=64)


OPENAI_SIZES = {
    "RN50": ((3, 4, 6, 3), 64, None, 224, 1024, 512),
    "RN101": ((3, 4, 23, 3), 64, None, 224, 512, 512),
    "RN50x4": ((4, 6, 10, 6), 80, None, 288, 640, 640),
    "RN50x16": ((6, 8, 18, 8), 96, None, 384, 768, 768),
    "RN50x64": ((3, 15, 36, 10), 128, None, 448, 1024, 1024),
    "ViT-B-32": (12, 768, 32, 224, 512, 512),
    "ViT-B-16": (12, 768, 16, 224, 512, 512),
    "ViT-L-14": (24, 1024, 14, 224, 768, 768),
    "ViT-L-14-336": (24, 1024, 14, 336, 768, 768),
}


@pytest.mark.parametrize("name", OPENAI_SIZES)
def test_sizes_are_inferred_from_the_tensors(name: str) -> None:
    layers, width, patch, resolution, embed_dim, text_width = OPENAI_SIZES[name]
    sizes = {
        "vision_layers": layers if isinstance(layers, int) else list(layers),
        "vision_width": width,
        "vision_patch_size": patch,
        "image_resolution": resolution,
        "embed_dim": embed_dim,
        "context_length": 77,
        "vocab_size": 49408,
        "transformer_width": text_width,
        "transformer_heads": text_width // 64,
        "transformer_layers": 12,
    }
    with torch.device("meta"):
        config = open_clip.get_model_config(name)
        theirs = open_clip.CLIP(**config)
        ours = CLIP(**sizes)
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    assert shapes == {key: value.shape for key, value in ours.state_dict().items()}
    assert infer_sizes(theirs.state_dict()) == sizes


def test_sizes_are_attributes() -> None:
    model = toy_clip(image_resolution=48, embed_dim=40)
    assert isinstance(model.visual, VisionTransformer)
    assert (model.visual.input_resolution, model.visual.output_dim) == (48, 40)
    assert (model.context_length, model.vocab_size) == (77, 49408)
    resnet = toy_resnet(image_resolution=96, embed_dim=24)
    assert isinstance(resnet.visual, ModifiedResNet)
    assert (resnet.visual.input_resolution, resnet.visual.output_dim) == (96, 24)


class TextEncoder(nn.Module):
    """A text encoder as in CoOp and its successors, which call the submodules directly."""

    def __init__(self, clip_model: CLIP) -> None:
        super().__init__()
        self.transformer = clip_model.transformer
        self.positional_embedding = clip_model.positional_embedding
        self.ln_final = clip_model.ln_final
        self.text_projection = clip_model.text_projection
        self.dtype = clip_model.dtype

    def forward(self, prompts: torch.Tensor, tokenized_prompts: torch.Tensor) -> torch.Tensor:
        x = prompts + self.positional_embedding.type(self.dtype)
        x = x.permute(1, 0, 2)
        x = self.transformer(x)
        x = x.permute(1, 0, 2)
        x = self.ln_final(x).type(self.dtype)
        eot = tokenized_prompts.argmax(dim=-1)
        return x[torch.arange(x.shape[0]), eot] @ self.text_projection


def test_coop_text_encoder_matches_encode_text() -> None:
    model = toy_clip()
    tokenized = texts(5, 12, 40)
    with torch.no_grad():
        embeddings = model.token_embedding(tokenized).type(model.dtype)
        assert torch.equal(TextEncoder(model)(embeddings, tokenized), model.encode_text(tokenized))


def test_transformers_take_sequence_first_input() -> None:
    model = toy_clip()
    x = torch.randn(77, 3, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        out = model.transformer(x)
        assert out.shape == (77, 3, 64)
        torch.testing.assert_close(out[:, 1:2], model.transformer(x[:, 1:2]))  # texts differ
        changed = x.clone()
        changed[40:] += 1.0
        torch.testing.assert_close(model.transformer(changed)[:40], out[:40])  # causal
        assert not torch.allclose(model.transformer(changed)[40:], out[40:])


def test_text_feature_is_read_at_the_largest_id_and_later_tokens_are_ignored() -> None:
    model = toy_clip()
    one, other = texts(9), texts(9)
    other[0, 10:] = 5
    with torch.no_grad():
        torch.testing.assert_close(model.encode_text(one), model.encode_text(other))


def test_layer_norm_computes_in_float32_and_returns_the_input_dtype() -> None:
    norm = LayerNorm(64)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias, -1.0, 1.0)
    x = 300.0 * torch.randn(5, 64, generator=torch.Generator().manual_seed(3))  # squares pass 65504
    half = x.half()
    expected = nn.functional.layer_norm(half.float(), (64,), norm.weight, norm.bias)
    assert torch.equal(norm(half), expected.half())
    assert norm(x).dtype == torch.float32
    assert norm.half()(half).dtype == torch.float16
    double = norm.double()(x.double())
    exact = nn.functional.layer_norm(x.double(), (64,), norm.weight, norm.bias)
    assert torch.equal(double, exact)


def test_quick_gelu_by_hand() -> None:
    x = torch.tensor([-2.0, 0.0, 1.0])
    expected = torch.tensor([-2.0 / (1 + math.exp(3.404)), 0.0, 1.0 / (1 + math.exp(-1.702))])
    torch.testing.assert_close(QuickGELU()(x), expected)


def test_fp16_converts_what_openai_converts() -> None:
    model = build_model(toy_clip_state_dict())
    half = {name for name, value in model.named_parameters() if value.dtype == torch.float16}
    block = "transformer.resblocks.0."
    converted = [
        *(f"{block}attn.{name}" for name in ("in_proj_weight", "in_proj_bias")),
        *(f"{block}attn.out_proj.{name}" for name in ("weight", "bias")),
        *(
            f"{block}mlp.{layer}.{name}"
            for layer in ("c_fc", "c_proj")
            for name in ("weight", "bias")
        ),
    ]
    for prefix in ("", "visual."):
        own = {name for name in half if name.startswith(prefix + block)}
        assert own == {prefix + name for name in converted}
    outside = {name for name in half if "resblocks" not in name}
    assert outside == {"text_projection", "visual.proj", "visual.conv1.weight"}
    assert model.dtype == torch.float16


def test_convert_weights_leaves_batch_norms() -> None:
    model = toy_resnet()
    convert_weights(model)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.weight.dtype for norm in norms} == {torch.float32}
    assert model.visual.attnpool.c_proj.bias.dtype == torch.float16
    assert model.dtype == torch.float16


def test_fp16_and_float32_agree() -> None:
    single, half = toy_clip(), build_model(toy_clip_state_dict())
    text, image = texts(4, 30), images(32)
    with torch.no_grad():
        for exact, rounded in (
            (single.encode_text(text), half.encode_text(text)),
            (single.encode_image(image), half.encode_image(image)),
        ):
            assert rounded.dtype == torch.float16
            torch.testing.assert_close(rounded.float(), exact, rtol=2e-2, atol=2e-2)


def test_build_model_copies_the_weights_and_draws_no_random_numbers() -> None:
    state_dict = toy_clip_state_dict()
    state_dict["visual.proj"].requires_grad_()
    before = {name: value.detach().clone() for name, value in state_dict.items()}
    random_state = torch.get_rng_state()
    model = build_model(state_dict, fp16=False)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not model.training
    assert all(value.requires_grad and value.is_leaf for value in model.parameters())
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    assert all(torch.equal(state_dict[name], value) for name, value in before.items())


def test_half_precision_weights_are_loaded_as_float32() -> None:
    state_dict = {name: value.half() for name, value in toy_clip_state_dict().items()}
    model = build_model(state_dict, fp16=False)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state_dict.items())


def test_size_entries_of_openais_weights_are_ignored_and_kept() -> None:
    sizes = {
        "input_resolution": torch.tensor(32),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49408),
    }
    state_dict = {**toy_clip_state_dict(), **sizes}
    names = list(state_dict)
    assert not sizes.keys() & build_model(state_dict).state_dict().keys()
    assert list(state_dict) == names


def test_new_model_is_initialized_for_training() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = infer_sizes(toy_clip_state_dict())
        model = CLIP(**sizes)
    assert math.isclose(model.logit_scale.exp().item(), 1 / 0.07, rel_tol=1e-5)
    assert 0.009 < model.positional_embedding.std().item() < 0.011
    block = model.transformer.resblocks[0]
    assert 0.9 < block.attn.in_proj_weight.std().item() * 64**0.5 < 1.1
    assert 0.9 < block.mlp.c_proj.weight.std().item() * (64 * 2 * 3) ** 0.5 < 1.1
    logits, _ = model(images(32), texts(3, 4))
    logits.sum().backward()
    unused = [name for name, value in model.named_parameters() if value.grad is None]
    assert not unused


def test_residual_branches_of_a_new_resnet_start_at_zero() -> None:
    model = CLIP(**infer_sizes(toy_resnet_state_dict()))
    assert not model.visual.layer1[0].bn3.weight.any()
    assert model.visual.attnpool.c_proj.weight.std().item() > 0


def test_vision_transformer_requires_a_patch_size() -> None:
    sizes = infer_sizes(toy_clip_state_dict()) | {"vision_patch_size": None}
    with pytest.raises(ValueError, match="vision_patch_size"):
        CLIP(**sizes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("ln_final.bias"), "ln_final.bias is missing"),
        (lambda weights: weights.pop("visual.conv1.weight"), "'visual.conv1.weight'"),
        (lambda weights: weights.update(logit_bias=torch.zeros(())), "logit_bias is unknown"),
        (
            lambda weights: weights.update({"visual.proj": torch.zeros(64, 7)}),
            r"visual.proj is \(64, 7\) instead of \(64, 32\)",
        ),
        (
            lambda weights: weights.update({"visual.conv1.weight": torch.zeros(96, 3, 8, 8)}),
            "a width of 96 is not a multiple of 64",
        ),
        (lambda weights: weights.clear(), "among the 0 names"),
    ],
)
def test_other_layouts_raise(change, message: str) -> None:
    weights = toy_clip_state_dict()
    change(weights)
    with pytest.raises(WeightsError, match=message):
        build_model(weights)


def test_long_list_of_differences_is_shortened() -> None:
    weights = {f"extra.{i}": torch.zeros(()) for i in range(30)} | toy_clip_state_dict()
    with pytest.raises(WeightsError, match="and 26 more"):
        build_model(weights)
