"""Every format: the code of its model card computes the classifier's logits."""

import contextlib
import io
import json
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from scripts.exporting import matrix, open_clip_model
from scripts.exporting.formats import FORMATS, image_settings, writer
from tests.scripts.exporting.commands import export, require, sentence
from tests.toy import toy_resnet_state_dict
from tests.trainers.classifier.runs import METHODS, Runs
from trainers.classifier import Classifier, load

PLAIN = ("CoOp", "TextRefinerCoOp")
VISUAL_PROMPTS = ("MaPLe", "PromptSRC", "PromptKD")
# Their text features, or their image features, are not one matrix on plain features.
NO_MATRIX = ("CoCoOp", "MMRL", "CLIPAdapter")
MATRIX = [method for method in METHODS if not method.endswith(NO_MATRIX)]
# One with each kind of image encoder, because a graph takes seconds to build.
IN_ONNX = ("TextRefinerCoOp", "TextRefinerMaPLe", "PromptSRC", "TextRefinerPromptKD", "MMRL")
IN_ONNX += ("CLIPAdapter",)


def run_card(out: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], str]:
    """Run the code of the model card beside photo.jpg; return its variables and what it prints."""
    code = re.search(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    assert code is not None
    assert len([line for line in code[1].splitlines() if line]) <= 14
    shutil.copy(photo, out / "photo.jpg")
    (out / "use.py").write_text(code[1])
    monkeypatch.chdir(out)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), torch.no_grad():
        variables = runpy.run_path("use.py")
    for name in ("photo.jpg", "use.py"):
        (out / name).unlink()
    return variables, printed.getvalue().strip()


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *(("onnx", method) for method in IN_ONNX),
        *((name, method) for name in ("open_clip", "transformers") for method in PLAIN),
    ],
)
def test_the_code_of_the_card_computes_the_logits(
    name: str, method: str, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(name)
    out = tmp_path / "out"
    assert export(runs.folder(method), out, "--to", name) == 0
    classifier = load(runs.folder(method))
    photo = tmp_path / "photo.png"  # lossless, of the size of the backbone: all transforms agree
    Image.open(runs.images[0]).save(photo)
    variables, printed = run_card(out, photo, monkeypatch)
    expected = classifier.logits(photo)
    found = torch.as_tensor(np.asarray(variables["logits"]))
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-4)
    assert printed == classifier.classnames[expected.argmax()]
    for count in (1, 2, 5) if name == "onnx" else ():  # the size of the batch is free
        images = torch.randn(count, 3, 32, 32)
        (logits,) = variables["session"].run(None, {"image": images.numpy()})
        torch.testing.assert_close(
            torch.from_numpy(logits), classifier.logits(images), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("method", MATRIX)
def test_the_matrix_computes_the_logits(
    method: str, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert export(runs.folder(method), out, "--to", "matrix") == 0
    assert sorted(path.name for path in out.iterdir()) == [
        *("README.md", "classifier.safetensors", "export.json")
    ]
    classifier = load(runs.folder(method))
    head = run_card(out, Path(runs.images[0]), monkeypatch)[0]["head"]
    features = F.normalize(classifier.encode_image(runs.images).pooled, dim=-1)
    logits = head["logit_scale"] * features @ head["text_features"].T
    expected = classifier.logits(runs.images)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    card = (out / "README.md").read_text()
    assert ("not normalized" in card) == method.startswith("TextRefiner")
    assert ("learned visual prompts" in card) == method.endswith(VISUAL_PROMPTS)


def test_a_wrong_graph_is_not_written(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require("onnx")
    from scripts.exporting import onnx_model

    other = load(runs.folder("TextRefinerMaPLe", "SEED", 2))
    build = onnx_model.build_graph
    monkeypatch.setattr(onnx_model, "build_graph", lambda classifier: build(other))
    words = (runs.folder("TextRefinerMaPLe"), tmp_path / "out", "--to", "onnx")
    message = sentence(capsys, *words, "--images", *runs.images)
    assert "nothing was written: the logits of the ONNX graph differ" in message
    assert list(tmp_path.iterdir()) == []


def test_a_resnet(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(toy_resnet_state_dict(), tmp_path / "resnet.pt")
    opts = ("MODEL.BACKBONE.NAME", str(tmp_path / "resnet.pt"), "INPUT.SIZE", (64, 64))
    run = runs.folder("CoOp", *opts)
    classifier = load(run)
    photo = tmp_path / "photo.png"
    Image.open(runs.images[0]).resize((64, 64)).save(photo)
    expected = classifier.logits(photo)
    for name in ("onnx", "open_clip"):
        require(name)
        assert export(run, tmp_path / name, "--to", name) == 0
        variables, _ = run_card(tmp_path / name, photo, monkeypatch)
        found = torch.as_tensor(np.asarray(variables["logits"]))
        torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-4)
    require("transformers")
    message = sentence(capsys, run, tmp_path / "out", "--to", "transformers")
    assert "needs a vision transformer" in message


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("method", ["CoCoOp", "TextRefinerCoCoOp"])
def test_text_features_per_image_have_no_matrix(
    name: str, method: str, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require(name)
    message = sentence(capsys, runs.folder(method), tmp_path / "out", "--to", name)
    assert f"those of {method} depend on the image: use scripts/predict.py" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("matrix", "MMRL"),
        ("matrix", "TextRefinerMMRL"),
        *((name, "CLIPAdapter") for name in ("matrix", "open_clip", "transformers")),
        ("matrix", "TextRefinerCLIPAdapter"),
    ],
)
def test_other_image_features_are_exported_to_onnx_only(
    name: str, method: str, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require(name)
    message = sentence(capsys, runs.folder(method), tmp_path / "out", "--to", name)
    assert f"but {method} adapts it or adds another: export it with --to onnx" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["open_clip", "transformers"])
@pytest.mark.parametrize("method", ["MaPLe", "PromptSRC", "TextRefinerPromptKD"])
def test_visual_prompts_are_exported_to_onnx_only(
    name: str, method: str, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require(name)
    message = sentence(capsys, runs.folder(method), tmp_path / "out", "--to", name)
    assert f"but {method} has learned visual prompts in it: export it with --to onnx" in message
    assert list(tmp_path.iterdir()) == []


def test_the_image_transform_that_formats_describe(runs: Runs) -> None:
    classifier = load(runs.folder("CoOp"))
    settings = image_settings(classifier)
    assert settings["size"] == [32, 32]
    assert settings["mean"] == list(classifier.input_settings.PIXEL_MEAN)
    plain = load(runs.folder("CoOp"), settings={"INPUT.TRANSFORMS": ("random_flip",)})
    assert image_settings(plain)["mean"] == [0.0, 0.0, 0.0]
    assert image_settings(plain)["std"] == [1.0, 1.0, 1.0]
    other = load(runs.folder("CoOp"), settings={"INPUT.TRANSFORMS": ("instance_norm",)})
    with pytest.raises(ValueError, match="instance_norm, which no format can express"):
        image_settings(other)


def test_gelu_is_exported_as_gelu(runs: Runs, tmp_path: Path) -> None:
    classifier: Classifier = load(runs.folder("CoOp"))
    clip_model = classifier.model.learner.clip_model
    assert open_clip_model.uses_quick_gelu(clip_model)
    for block in [*clip_model.transformer.resblocks, *clip_model.visual.transformer.resblocks]:
        block.mlp.gelu = torch.nn.GELU()
    assert not open_clip_model.uses_quick_gelu(clip_model)
    for name in ("open_clip", "transformers"):
        require(name)
        writer(name)(classifier, tmp_path, [])
    assert not json.loads((tmp_path / "open_clip_config.json").read_text())["model_cfg"][
        "quick_gelu"
    ]
    assert json.loads((tmp_path / "config.json").read_text())["hidden_act"] == "gelu"
    assert (tmp_path / matrix.FILE).exists()
