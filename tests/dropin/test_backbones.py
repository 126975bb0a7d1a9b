"""clip._MODELS and clip._download serve every backbone name to a trainer of another repository."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from clip import clip
from clip.errors import WeightsError
from clip.model import convert_weights
from tests.toy import save_toy_clip, toy_clip_state_dict, toy_resnet_state_dict
from tests.toy_huggingface import as_hugging_face, config

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
VIT = {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8}
ARCHITECTURES = {
    "dropped-vit": {"embed_dim": 32, "vision_cfg": VIT, "text_cfg": TEXT},
    "dropped-vit-quickgelu": {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": VIT,
        "text_cfg": TEXT,
    },
    "dropped-vit-heads": {
        "embed_dim": 32,
        "vision_cfg": VIT | {"head_width": 16},
        "text_cfg": TEXT | {"heads": 4},
    },
}


def load_clip_to_cpu(name):
    """Load CLIP as all public trainers do."""
    url = clip._MODELS[name]
    model_path = clip._download(url)
    try:
        model = torch.jit.load(model_path, map_location="cpu").eval()
        state_dict = None
    except RuntimeError:
        state_dict = torch.load(model_path, map_location="cpu")
    return clip.build_model(state_dict or model.state_dict())


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Return kind -> a name of such a backbone."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "configs").mkdir()
    for name, settings in ARCHITECTURES.items():
        (folder / "configs" / f"{name}.json").write_text(json.dumps(settings))
    open_clip.add_model_config(folder / "configs")
    found = {"bundled": "critters-vit-t", "path": str(save_toy_clip(folder / "toy clip.pt"))}
    torch.save(toy_resnet_state_dict(), folder / "resnet.pt")
    found["path of a ResNet"] = str(folder / "resnet.pt")
    for name in ARCHITECTURES:
        torch.manual_seed(0)
        path = folder / f"{name}.pt"
        torch.save(open_clip.create_model(name, pretrained=None).state_dict(), path)
        found[f"architecture {name}"] = f"{name}:{path}"
    for activation in ("gelu", "quick_gelu"):
        weights, hf = toy_clip_state_dict(), folder / f"hf-{activation}"
        hf.mkdir()
        save_file(as_hugging_face(weights), hf / "model.safetensors")
        (hf / "config.json").write_text(json.dumps(config(32, activation)))
        found[f"folder of Hugging Face, {activation}"] = str(hf)
    return found


KINDS = [
    *("bundled", "path", "path of a ResNet"),
    *(f"architecture {name}" for name in ARCHITECTURES),
    *(f"folder of Hugging Face, {activation}" for activation in ("gelu", "quick_gelu")),
]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_model_is_that_of_clip_load(kind, names):
    expected, _ = clip.load(names[kind], device="cpu")
    convert_weights(expected)  # build_model does
    model = load_clip_to_cpu(names[kind])
    assert model.state_dict().keys() == expected.state_dict().keys()
    for key, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    size = model.visual.input_resolution
    image, text = torch.randn(2, 3, size, size), clip.tokenize(["a photo of a cat."])
    expected, model = expected.float(), model.float()
    assert torch.equal(model.encode_image(image), expected.encode_image(image))
    assert torch.equal(model.encode_text(text), expected.encode_text(text))


def test_options_survive_a_copy_of_the_weights(names):
    """Some trainers convert all tensors before they build the model."""
    for kind, activation in (("dropped-vit", "GELU"), ("dropped-vit-quickgelu", "QuickGELU")):
        path = clip._download(clip._MODELS[names[f"architecture {kind}"]])
        copied = {key: value.float() for key, value in torch.load(path).items()}
        block = clip.build_model(copied).visual.transformer.resblocks[0]
        assert type(block.mlp.gelu).__name__ == activation
    path = clip._download(clip._MODELS[names["architecture dropped-vit-heads"]])
    copied = {key: value.float() for key, value in torch.load(path).items()}
    assert clip.build_model(copied).visual.transformer.resblocks[0].attn.num_heads == 8


def test_changed_weights_are_read_again(tmp_path):
    path = save_toy_clip(tmp_path / "clip.pt", seed=1)
    first = load_clip_to_cpu(str(path)).visual.proj.clone()
    save_toy_clip(path, seed=2)
    assert not torch.equal(load_clip_to_cpu(str(path)).visual.proj, first)


def test_openai_names_keep_their_addresses():
    assert clip._MODELS["ViT-B/16"].startswith("https://openaipublic.azureedge.net/clip/models/")
    assert set(clip._MODELS) < set(clip.available_models())


@pytest.mark.parametrize("name", ["ViT-B/17", "nowhere.pt", "no-architecture:tag"])
def test_an_unknown_name_is_refused_as_by_clip_load(name, tmp_path):
    with pytest.raises(WeightsError) as by_load:
        clip.load(name)
    with pytest.raises(WeightsError) as error:
        clip._download(clip._MODELS[name])
    assert str(error.value) == str(by_load.value)


def test_temporary_files_are_removed_at_the_end(names):
    import subprocess
    import sys

    program = "from clip import clip; print(clip._download(clip._MODELS['critters-vit-t']).strip())"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    path = Path(done.stdout.splitlines()[-1])
    assert path.name == "0-critters-vit-t.pt"
    assert not path.parent.exists()
