"""Metrics, evaluators and their result block, compared with values computed by hand."""

import csv
import json
import os

import pytest
import torch
from torch.nn import functional as F

from dassl.config import get_cfg_default, merge_opts
from dassl.evaluation import EVALUATOR_REGISTRY, Classification, EvaluatorBase, build_evaluator
from dassl.metrics import (
    compute_accuracy,
    compute_distance_matrix,
    cosine_distance,
    euclidean_squared_distance,
)
from dassl.utils import UsageError


def logits_for(predictions, classes):
    return F.one_hot(torch.tensor(predictions), classes).float()


def cfg_with(*opts):
    cfg = get_cfg_default()
    merge_opts(cfg, ["VERBOSE", False, *opts])
    return cfg


# metrics


def test_accuracy_by_hand():
    output = torch.tensor([[3.0, 2, 1], [1, 2, 3], [2, 3, 1], [2, 1, 3]])
    target = torch.tensor([0, 0, 0, 1])
    top1, top2, top3 = compute_accuracy(output, target, topk=(1, 2, 3))
    assert top1.shape == (1,)
    assert (top1.item(), top2.item(), top3.item()) == (25.0, 50.0, 100.0)
    assert compute_accuracy((output, "features"), target)[0].item() == 25.0
    assert compute_accuracy(output.half(), target)[0].dtype == torch.float32


def test_distances_by_hand():
    a, b = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 2.0]])
    assert torch.equal(euclidean_squared_distance(a, b), torch.tensor([[5.0], [13.0]]))
    assert torch.allclose(cosine_distance(a, b), torch.tensor([[1.0], [0.2]]))
    assert torch.equal(compute_distance_matrix(a, b), euclidean_squared_distance(a, b))
    assert torch.equal(compute_distance_matrix(a, b, "cosine"), cosine_distance(a, b))


def test_invalid_distances_raise():
    a = torch.zeros(2, 3)
    with pytest.raises(UsageError, match="unknown distance 'cosin': did you mean 'cosine'"):
        compute_distance_matrix(a, a, "cosin")
    with pytest.raises(UsageError, match=r"got \(2, 3\) and \(2, 4\)"):
        compute_distance_matrix(a, torch.zeros(2, 4))


# the result block


def test_result_block(capsys):
    """1,000 images, 810 correct: class 0 with 510 of 600, class 1 with 300 of 400."""
    evaluator = Classification(cfg_with())
    true = torch.tensor([0] * 600 + [1] * 400)
    pred = [0] * 510 + [1] * 90 + [1] * 300 + [0] * 100
    for part in torch.arange(1000).split(128):
        evaluator.process(logits_for(pred, 3)[part], true[part])
    results = evaluator.evaluate()
    # f1: class 0 2*510/(600+610), class 1 2*300/(400+390); class 2 does not occur
    macro_f1 = 50 * (1020 / 1210 + 600 / 790)
    assert results == pytest.approx({"accuracy": 81.0, "error_rate": 19.0, "macro_f1": macro_f1})
    assert next(iter(results)) == "accuracy"
    assert capsys.readouterr().out == (
        "=> result\n"
        "* total: 1,000\n"
        "* correct: 810\n"
        "* accuracy: 81.0%\n"
        "* error: 19.0%\n"
        f"* macro_f1: {macro_f1:.1f}%\n"
    )


def test_reset_clears_all_counts():
    evaluator = Classification(cfg_with())
    evaluator.process(logits_for([0], 2), torch.tensor([1]))
    evaluator.reset()
    evaluator.process(logits_for([1], 2), torch.tensor([1]))
    assert evaluator.evaluate()["accuracy"] == 100.0


def test_empty_evaluation_raises():
    with pytest.raises(UsageError, match="nothing to evaluate"):
        Classification(cfg_with()).evaluate()


def test_per_class_result(tmp_path, capsys):
    """Class 1 has no images: it is listed, and not part of the mean."""
    names = {0: "cat", 1: 'a "wild", cow', 2: "dog"}
    cfg = cfg_with("TEST.PER_CLASS_RESULT", True, "OUTPUT_DIR", str(tmp_path))
    evaluator = Classification(cfg, names)
    evaluator.split = "val"
    evaluator.process(logits_for([0, 0, 0, 1], 3), torch.tensor([0, 0, 2, 2]))
    results = evaluator.evaluate()
    assert results["perclass_accuracy"] == 50.0
    out = capsys.readouterr().out
    assert "=> per-class result\n" in out
    assert "* class: 0 (cat)\ttotal: 2\tcorrect: 2\tacc: 100.0%\n" in out
    assert '* class: 1 (a "wild", cow)\ttotal: 0\tcorrect: 0\tacc: none\n' in out
    assert "* class: 2 (dog)\ttotal: 2\tcorrect: 0\tacc: 0.0%\n" in out
    assert "* average: 50.0%\n" in out
    assert f"Per-class results are saved to {tmp_path / 'per_class.json'}\n" in out
    assert json.loads((tmp_path / "per_class.json").read_text()) == {
        "split": "val",
        "mean_accuracy": 50.0,
        "classes": [
            {"label": 0, "class": "cat", "images": 2, "correct": 2, "accuracy": 100.0},
            {"label": 1, "class": names[1], "images": 0, "correct": 0, "accuracy": None},
            {"label": 2, "class": "dog", "images": 2, "correct": 0, "accuracy": 0.0},
        ],
    }
    with open(tmp_path / "per_class.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["label", "class", "images", "correct", "accuracy"],
            ["0", "cat", "2", "2", "100.0"],
            ["1", names[1], "0", "0", ""],
            ["2", "dog", "2", "0", "0.0"],
        ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["per_class.csv", "per_class.json"]
    with pytest.raises(UsageError, match="needs lab2cname"):
        Classification(cfg_with("TEST.PER_CLASS_RESULT", True))


def test_confusion_matrix(tmp_path, capsys):
    evaluator = Classification(cfg_with("TEST.COMPUTE_CMAT", True, "OUTPUT_DIR", str(tmp_path)))
    evaluator.process(logits_for([0, 1, 1, 1], 2), torch.tensor([0, 0, 1, 1]))
    evaluator.evaluate()
    matrix = torch.load(tmp_path / "cmat.pt", weights_only=True)
    assert matrix.tolist() == [[0.5, 0.5], [0.0, 1.0]]
    assert f"Confusion matrix is saved to {tmp_path}" in capsys.readouterr().out


def test_confusion_matrix_has_all_classes(tmp_path):
    """Class 1 is neither among the labels nor predicted; class 3 is predicted only."""
    cfg = cfg_with("TEST.COMPUTE_CMAT", True, "OUTPUT_DIR", str(tmp_path))
    evaluator = Classification(cfg, {0: "a", 1: "b", 2: "c", 3: "d"})
    evaluator.process(logits_for([0, 3, 2, 0], 4), torch.tensor([0, 0, 2, 2]))
    evaluator.evaluate()
    counts = [[1, 0, 0, 1], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    matrix = torch.load(tmp_path / "cmat.pt", weights_only=True)
    assert torch.equal(matrix, torch.tensor(counts, dtype=torch.float64) / 2)
    assert json.loads((tmp_path / "cmat.json").read_text()) == {
        "split": "",
        "labels": [0, 1, 2, 3],
        "classes": ["a", "b", "c", "d"],
        "counts": counts,
    }
    assert (tmp_path / "cmat.csv").read_text() == (
        "true class,a,b,c,d\na,1,0,0,1\nb,0,0,0,0\nc,1,0,1,0\nd,0,0,0,0\n"
    )


def test_confusion_matrix_without_names_has_a_row_for_each_logit(tmp_path):
    evaluator = Classification(cfg_with("TEST.COMPUTE_CMAT", True, "OUTPUT_DIR", str(tmp_path)))
    evaluator.process(logits_for([0, 1], 3), torch.tensor([0, 0]))
    evaluator.evaluate()
    assert torch.load(tmp_path / "cmat.pt", weights_only=True).shape == (3, 3)


@pytest.mark.parametrize("option", ["VERBOSE", "TEST.PER_CLASS_RESULT", "TEST.COMPUTE_CMAT"])
def test_labels_without_a_name_raise(tmp_path, option):
    """Images of a class that has no training image, whatever is computed."""
    evaluator = Classification(cfg_with(option, True, "OUTPUT_DIR", str(tmp_path)), {0: "cat"})
    evaluator.process(logits_for([0, 0, 0], 1), torch.tensor([0, 4, 4]))
    with pytest.raises(UsageError, match=r"2 of 3 tested images have labels .*\(4; .* 1 names\)"):
        evaluator.evaluate()
    assert not list(tmp_path.iterdir())


def test_confusions_with_an_unknown_class_raise(tmp_path):
    cfg = cfg_with("TEST.COMPUTE_CMAT", True, "OUTPUT_DIR", str(tmp_path))
    evaluator = Classification(cfg, {0: "cat", 1: "dog"})
    evaluator.process(logits_for([0, 2], 3), torch.tensor([0, 1]))
    with pytest.raises(UsageError, match="predicts the label 2, but the class list has 2 names"):
        evaluator.evaluate()


def test_names_that_are_not_unicode_are_saved(tmp_path):
    opts = ("TEST.COMPUTE_CMAT", True, "TEST.PER_CLASS_RESULT", True, "OUTPUT_DIR", str(tmp_path))
    name = os.fsdecode(b"caf\xe9")
    evaluator = Classification(cfg_with(*opts), {0: name})
    evaluator.process(logits_for([0], 1), torch.tensor([0]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *_: None)  # a console may refuse the name
        evaluator.evaluate()
    assert json.loads((tmp_path / "cmat.json").read_text())["classes"] == [name]
    assert "caf\\udce9,1\n" in (tmp_path / "cmat.csv").read_text()


def test_build_evaluator(capsys):
    assert isinstance(build_evaluator(cfg_with("VERBOSE", True), lab2cname={}), Classification)
    assert capsys.readouterr().out == "Loading evaluator: Classification\n"
    with pytest.raises(UsageError, match="no evaluator is registered as 'Classifier'"):
        build_evaluator(cfg_with("TEST.EVALUATOR", "Classifier"))


def test_custom_evaluator():
    @EVALUATOR_REGISTRY.register(force=True)
    class Mine(EvaluatorBase): ...

    mine = build_evaluator(cfg_with("TEST.EVALUATOR", "Mine"))
    for method in (mine.reset, mine.evaluate, lambda: mine.process(None, None)):
        with pytest.raises(NotImplementedError):
            method()
