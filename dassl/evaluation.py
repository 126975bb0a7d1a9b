"""Evaluators: accuracy, macro F1, per-class accuracy and the confusion matrix of a classifier."""

import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from yacs.config import CfgNode

from .utils.errors import UsageError
from .utils.registry import Registry
from .utils.tools import atomic_path

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: CfgNode, **kwargs: Any) -> Any:
    """Build the evaluator named by cfg.TEST.EVALUATOR; `kwargs` are passed to it."""
    evaluator = EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)
    if cfg.VERBOSE:
        print(f"Loading evaluator: {cfg.TEST.EVALUATOR}")
    return evaluator(cfg, **kwargs)


class EvaluatorBase:
    """Interface of an evaluator."""

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg

    def reset(self) -> None:
        """Discard all batches."""
        raise NotImplementedError

    def process(self, mo: Any, gt: Any) -> None:
        """Add a batch of model outputs and ground truth."""
        raise NotImplementedError

    def evaluate(self) -> OrderedDict[str, float]:
        """Print and return the results; models are selected by the first one."""
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Evaluator that prints the block "=> result", "* accuracy: 81.0%", ... for result parsers.

    ``lab2cname`` maps labels to class names, for TEST.PER_CLASS_RESULT.
    """

    def __init__(
        self, cfg: CfgNode, lab2cname: Mapping[int, str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(cfg)
        if cfg.TEST.PER_CLASS_RESULT and lab2cname is None:
            raise UsageError("TEST.PER_CLASS_RESULT needs lab2cname, the names of the classes")
        self._lab2cname = lab2cname
        self.reset()

    def reset(self) -> None:
        self._true: list[Tensor] = []
        self._pred: list[Tensor] = []
        self.total = self.correct = 0  # of the last `evaluate`

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Add logits (B, C) and labels (B,); they stay on their device until `evaluate`."""
        self._pred.append(mo.detach().argmax(dim=1))
        self._true.append(gt.detach())

    def evaluate(self) -> OrderedDict[str, float]:
        """Print the result block; return accuracy, error_rate and macro_f1 in percent.

        macro_f1 is the average over the classes that occur among the labels.
        """
        from sklearn.metrics import f1_score  # slow to import; not needed before the first epoch

        if not self._true:
            raise UsageError("nothing to evaluate: the split has no images")
        true = torch.cat(self._true).cpu().numpy()
        pred = torch.cat(self._pred).cpu().numpy()
        self.total, self.correct = len(true), int((true == pred).sum())
        accuracy = 100.0 * self.correct / self.total
        macro_f1 = 100.0 * float(f1_score(true, pred, average="macro", labels=np.unique(true)))
        results = OrderedDict(accuracy=accuracy, error_rate=100.0 - accuracy, macro_f1=macro_f1)
        print(
            "=> result\n"
            f"* total: {self.total:,}\n"
            f"* correct: {self.correct:,}\n"
            f"* accuracy: {accuracy:.1f}%\n"
            f"* error: {100.0 - accuracy:.1f}%\n"
            f"* macro_f1: {macro_f1:.1f}%"
        )
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._print_per_class(true, pred)
        if self.cfg.TEST.COMPUTE_CMAT:
            self._save_confusion_matrix(true, pred)
        return results

    def _print_per_class(self, true: np.ndarray, pred: np.ndarray) -> float:
        """Print the accuracy of each class that occurs; return their mean."""
        assert self._lab2cname is not None  # checked in __init__
        print("=> per-class result")
        accuracies = []
        for label in np.unique(true).tolist():
            hits = pred[true == label] == label
            accuracies.append(100.0 * float(hits.mean()))
            print(
                f"* class: {label} ({self._lab2cname[label]})\ttotal: {len(hits):,}\t"
                f"correct: {int(hits.sum()):,}\tacc: {accuracies[-1]:.1f}%"
            )
        mean = float(np.mean(accuracies))
        print(f"* average: {mean:.1f}%")
        return mean

    def _save_confusion_matrix(self, true: np.ndarray, pred: np.ndarray) -> None:
        """Save OUTPUT_DIR/cmat.pt; each row (true class) sums to 1."""
        from sklearn.metrics import confusion_matrix

        path = os.path.join(self.cfg.OUTPUT_DIR, "cmat.pt")
        with atomic_path(path) as temporary:
            torch.save(torch.from_numpy(confusion_matrix(true, pred, normalize="true")), temporary)
        print(f"Confusion matrix is saved to {path}")
