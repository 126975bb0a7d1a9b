"""Load open_clip models; small architectures are added to open_clip's registry."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

import clip
from clip import openclip
from clip.errors import WeightsError
from clip.model import infer_sizes
from tests.toy import toy_clip_state_dict

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
VIT = {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8}
RESNET = {"image_size": 64, "layers": [1, 1, 2, 1], "width": 8, "patch_size": None}
CONFIGS = {
    "toy-vit": {"embed_dim": 32, "vision_cfg": VIT, "text_cfg": TEXT},
    "toy-vit-quickgelu": {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": VIT,
        "text_cfg": TEXT,
    },
    "toy-vit-deep": {"embed_dim": 32, "vision_cfg": VIT | {"layers": 3}, "text_cfg": TEXT},
    "toy-vit-wide": {"embed_dim": 32, "vision_cfg": VIT | {"width": 192}, "text_cfg": TEXT},
    "toy-vit-fine": {"embed_dim": 32, "vision_cfg": VIT | {"patch_size": 4}, "text_cfg": TEXT},
    "toy-vit-long": {"embed_dim": 32, "vision_cfg": VIT, "text_cfg": TEXT | {"layers": 4}},
    "toy-vit-same": {"embed_dim": 24, "vision_cfg": VIT | {"width": 8}, "text_cfg": TEXT},
    "toy-vit-heads": {
        "embed_dim": 32,
        "vision_cfg": VIT | {"head_width": 16},
        "text_cfg": TEXT | {"heads": 4},
    },
    "toy-rn": {"embed_dim": 24, "vision_cfg": RESNET, "text_cfg": TEXT},
}


@pytest.fixture(scope="module", autouse=True)
def _small_architectures(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("configs")
    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def new_model(name: str) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return open_clip.create_model(name, pretrained=None).eval()


@torch.no_grad()
def assert_same_features(ours: clip.model.CLIP, theirs: torch.nn.Module) -> None:
    image = torch.randn(2, 3, ours.visual.input_resolution, ours.visual.input_resolution)
    text = clip.tokenize(["a photo of a cat.", "forget-me-not"])
    for ours_, theirs_ in (
        (ours.encode_image(image), theirs.encode_image(image)),
        (ours.encode_text(text), theirs.encode_text(text)),
    ):
        torch.testing.assert_close(ours_, theirs_, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", ["toy-vit", "toy-vit-quickgelu", "toy-rn"])
def test_features_of_a_file_match_open_clips(name: str, suffix: str, tmp_path: Path) -> None:
    theirs = new_model(name)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"epoch": 1, "name": name, "state_dict": theirs.state_dict()}, path)
    else:
        save_file(theirs.state_dict(), path)
    ours, _ = clip.load(f"{name}:{path}", device="cpu")
    assert_same_features(ours, theirs)


def test_tag_is_downloaded_and_sets_activation_and_normalization(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tag's activation is used: the architecture has GELU, the weights QuickGELU."""
    theirs = new_model("toy-vit-quickgelu")
    save_file(theirs.state_dict(), tmp_path / "tag.safetensors")
    settings = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "quick_gelu": True}
    registry = {("toy-vit", "some_tag"): settings}
    monkeypatch.setattr(open_clip, "is_pretrained_cfg", lambda *key: key in registry)
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda *key: registry[key])
    monkeypatch.setattr(
        open_clip, "download_pretrained", lambda config: str(tmp_path / "tag.safetensors")
    )
    ours, preprocess = clip.load("toy-vit:some_tag", device="cpu")
    assert_same_features(ours, theirs)
    assert preprocess.transforms[-1].mean == (0.5, 0.5, 0.5)
    assert preprocess.transforms[-1].std == (0.5, 0.5, 0.5)
    printed = capsys.readouterr().out
    assert "(QuickGELU)" in printed
    assert "mean (0.5, 0.5, 0.5)" in printed


@pytest.mark.parametrize(
    ("named", "file", "message"),
    [
        ("ViT-B-32", "toy-vit", "embedding width 32 instead of 512"),
        ("toy-vit", "toy-rn", "embedding width 24 instead of 32"),
        ("toy-vit-deep", "toy-vit", "vision layers 2 instead of 3"),
        ("toy-vit-wide", "toy-vit", "vision width 128 instead of 192"),
        ("toy-vit-fine", "toy-vit", "patch size 8 instead of 4"),
        ("toy-vit-long", "toy-vit", "text layers 2 instead of 4"),
        ("toy-vit-same", "toy-rn", r"vision layers \[1, 1, 2, 1\] instead of 2"),
    ],
)
def test_file_of_another_architecture_raises(
    named: str, file: str, message: str, tmp_path: Path
) -> None:
    save_file(new_model(file).state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError, match=rf"{named}.*another architecture: {message}$"):
        clip.load(f"{named}:{tmp_path / 'weights.safetensors'}", device="cpu")


def test_a_failed_download_raises_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: dict) -> str:
        raise FileNotFoundError("Failed to download file: no network")

    monkeypatch.setattr(open_clip, "download_pretrained", fail)
    with pytest.raises(WeightsError, match=r"cannot download ViT-B-16:laion2b.*network"):
        openclip.find("ViT-B-16:laion2b_s34b_b88k")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-bigG-14:laion2b_s39b_b160k", "mlp_ratio 4.9231 instead of 4"),
        ("coca_ViT-B-32:laion2b_s13b_b90k", "differs .*multimodal_cfg"),
        ("ViT-B-16-SigLIP:webli", "differs .*timm_model_name"),
        ("xlm-roberta-base-ViT-B-32:laion5b_s13b_b90k", "hf_model_name"),
        ("ViT-L-14-CLIPA:datacomp1b", "no_causal_mask"),
    ],
)
def test_unsupported_architectures_raise_with_the_reason(name: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        openclip.find(name)


def test_other_text_encoder_settings_are_reported() -> None:
    config = {"embed_dim": 32, "vision_cfg": VIT, "text_cfg": TEXT | {"vocab_size": 32000}}
    assert openclip.differences(config) == "a vocabulary of 32000 instead of 49408"


def test_heads_of_another_width_come_from_the_architecture(tmp_path: Path) -> None:
    """As in ViT-H-14, which has heads of 80 channels in its image encoder."""
    theirs = new_model("toy-vit-heads")
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    ours, _ = clip.load(f"toy-vit-heads:{tmp_path / 'weights.safetensors'}", device="cpu")
    assert ours.visual.transformer.resblocks[0].attn.num_heads == 8
    assert ours.transformer.resblocks[0].attn.num_heads == 4
    assert_same_features(ours, theirs)


@pytest.mark.parametrize(("encoder", "width"), [("image", "1280"), ("text", "1280")])
def test_wide_encoders_need_their_architecture(encoder: str, width: str) -> None:
    key = "visual.conv1.weight" if encoder == "image" else "ln_final.weight"
    weights = toy_clip_state_dict(vision_layers=1, text_layers=1)
    shape = (int(width), *weights[key].shape[1:])
    weights[key] = torch.zeros(1).expand(shape)
    message = f"{encoder} encoder has a width of {width}, .*name the architecture.*ViT-H-14:PATH"
    with pytest.raises(WeightsError, match=message):
        infer_sizes(weights)
    assert infer_sizes(weights, heads=(16, 16))


def test_plain_architectures_of_the_registry_are_supported() -> None:
    names = ["RN50", "RN101-quickgelu", "RN50x64", "ViT-B-32", "ViT-B-16", "ViT-L-14-336"]
    found = {name: openclip.differences(open_clip.get_model_config(name)) for name in names}
    assert found == dict.fromkeys(names, "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-B-17:openai", "no architecture 'ViT-B-17'; did you mean 'ViT-B-16'"),
        ("ViT-B-16:laion2b_s34b", "'laion2b_s34b' of ViT-B-16.*did you mean 'laion2b_s34b_b88k'"),
        ("ViT-B-16:", "no weights '' of ViT-B-16.*allowed: .*, openai"),
    ],
)
def test_unknown_names_list_the_nearest(name: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        openclip.find(name)
