"""Classifier: kinds of images, scores, predictions, features and other class names."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dassl.utils import UsageError
from tests.trainers.classifier.runs import METHODS, Runs
from trainers.classifier import Classifier, load
from trainers.settings import SettingsError


@pytest.fixture(scope="module")
def refined(runs: Runs) -> Classifier:
    return load(runs.folder("TextRefinerCoOp"), batch_size=2)


def test_every_kind_of_image_gives_the_same_logits(refined: Classifier, runs: Runs) -> None:
    pictures = [Image.open(path) for path in runs.images]
    tensors = torch.stack([refined.transform(picture.convert("RGB")) for picture in pictures])
    expected = refined.logits(runs.images)
    assert expected.shape == (3, 3)
    for images in (map(Path, runs.images), pictures, tensors, list(tensors)):
        torch.testing.assert_close(refined.logits(list(images)), expected)
    mixed = [runs.images[0], pictures[1], tensors[2]]
    torch.testing.assert_close(refined.logits(mixed), expected)
    torch.testing.assert_close(refined.logits(runs.images[0]), expected[:1])
    torch.testing.assert_close(refined.logits(tensors[0]), expected[:1])
    assert refined.logits([]).shape == (0, 3)
    gray = pictures[0].convert("L")
    assert refined.logits(gray).shape == (1, 3)


def test_scores_are_probabilities_and_predictions_are_sorted(
    refined: Classifier, runs: Runs
) -> None:
    scores = refined.scores(runs.images)
    torch.testing.assert_close(scores, refined.logits(runs.images).softmax(dim=1))
    found = refined.predict(runs.images, top_k=9)  # more than the classes
    assert [len(row) for row in found] == [3, 3, 3]
    for row, own in zip(found, scores, strict=True):
        assert [p.score for p in row] == sorted(own.tolist(), reverse=True)
        for name, score in row:
            assert own[refined.classnames.index(name)].item() == score
    assert len(refined.predict(runs.images[0], top_k=1)[0]) == 1
    with pytest.raises(SettingsError, match="top_k must be at least 1, got 0"):
        refined.predict(runs.images, top_k=0)


@pytest.mark.parametrize("method", METHODS)
def test_text_features_classify_as_documented(method: str, runs: Runs) -> None:
    classifier = load(runs.folder(method))
    pooled = classifier.encode_image(runs.images).pooled
    features = classifier.image_features(runs.images)
    normalized = torch.allclose(features, F.normalize(pooled, dim=-1), rtol=1e-5, atol=1e-6)
    assert normalized == (not method.endswith(("MMRL", "CLIPAdapter")))
    if classifier.text_per_image:
        with pytest.raises(SettingsError, match=f"text features of {method} depend on the image"):
            _ = classifier.text_features
        return
    text = classifier.text_features
    assert text.dtype == torch.float32
    logits = classifier.logit_scale * features @ text.T
    torch.testing.assert_close(classifier.logits(runs.images), logits, rtol=1e-5, atol=1e-5)


def test_local_tokens(refined: Classifier, runs: Runs) -> None:
    tokens = refined.encode_image(runs.images, local=True)
    assert tokens.local is not None
    assert tokens.saliency is not None
    assert tokens.pooled.shape == (3, 32)
    assert tokens.local.shape == (3, 17, 32)
    assert tokens.saliency.shape == (3, 16)
    torch.testing.assert_close(tokens.local[:, 0], tokens.pooled, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(refined.encode_image(runs.images).pooled, tokens.pooled)
    with pytest.raises(SettingsError, match="needs at least one image"):
        refined.encode_image([])


def test_other_classes_leave_the_first_classifier_alone(refined: Classifier, runs: Runs) -> None:
    before = refined.logits(runs.images)
    other = refined.with_classes(["a cat", "dog", "ant", "bee"])
    assert other.logits(runs.images).shape == (3, 4)
    assert "4 classes" in repr(other)
    assert torch.equal(refined.logits(runs.images), before)
    again = other.with_classes(refined.classnames)
    assert torch.equal(again.logits(runs.images), before)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "got none"),
        ("cat", r"got no list: \['cat'\]"),
        (["cat", " "], "got an empty one"),
        (["xylophone " * 40], "tokens, but CLIP's context has 77"),
    ],
)
def test_class_names_that_cannot_be_used(names: list, message: str, refined: Classifier) -> None:
    with pytest.raises(SettingsError, match=message):
        refined.with_classes(names)


def test_names_that_the_model_cannot_tell_apart_are_named(
    refined: Classifier, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    refined.with_classes(["cat", "dog"])
    assert capsys.readouterr().err == ""
    refined.with_classes(["Bell Pepper", "dog", "bell_pepper"])
    assert "warning: class names differ only in case" in capsys.readouterr().err
    load(runs.folder("TextRefinerCoOp"), classnames=["cat", "cat"])
    assert "warning: several classes have the same name" in capsys.readouterr().err


def test_class_specific_contexts_know_their_classes_only(runs: Runs) -> None:
    folder = runs.folder("TextRefinerCoOp", "TRAINER.COOP.CSC", True)
    classifier = load(folder)
    assert classifier.logits(runs.images).shape == (3, 3)
    for names in (["cat", "dog", "bee"], ["cat"], classifier.classnames[::-1]):
        with pytest.raises(SettingsError, match="learned a context for each class"):
            classifier.with_classes(names)
        with pytest.raises(SettingsError, match="learned a context for each class"):
            load(folder, classnames=names)


def test_a_student_without_its_teacher_knows_the_saved_names_only(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = load(runs.folder("PromptKD"))
    assert classifier.with_classes(runs.world.classnames).logits(runs.images).shape == (3, 6)
    teacher = Path(runs.world.teacher)
    teacher.rename(teacher.with_suffix(".away"))
    try:
        with pytest.raises(SettingsError, match=r"has no text features for cat \(1 class names\)"):
            classifier.with_classes(["cat", *runs.world.classnames])
    finally:
        teacher.with_suffix(".away").rename(teacher)
    assert classifier.with_classes(["cat", "dog"]).logits(runs.images).shape == (3, 2)


def test_images_that_cannot_be_used(refined: Classifier, runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(Path(runs.images[0]).read_bytes()[:300])
    with pytest.raises(UsageError, match="cannot read the image"):
        refined.logits(tmp_path / "broken.jpg")
    with pytest.raises(UsageError, match="no image at"):
        refined.logits([runs.images[0], tmp_path / "none.jpg"])
    for tensor in (torch.zeros(3, 16, 16), torch.zeros(2, 1, 32, 32), torch.zeros(3, 32, 32).int()):
        with pytest.raises(SettingsError, match=r"takes floating-point images \(3, 32, 32\)"):
            refined.logits(tensor)
    with pytest.raises(SettingsError, match="got a Tensor of shape"):
        refined.logits([torch.zeros(2, 2)])
    with pytest.raises(SettingsError, match="got a dict as an image"):
        refined.logits([{}])  # type: ignore[list-item]
