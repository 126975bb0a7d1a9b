"""Accuracy, macro F1, per-class results and the confusion matrix of a classifier."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.metrics import confusion_matrix, f1_score
from torch import Tensor
from yacs.config import CfgNode

from ..utils.errors import UsageError
from ..utils.tools import atomic_path
from .build import EVALUATOR_REGISTRY


class EvaluatorBase:
    """What a trainer asks of an evaluator."""

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg

    def reset(self) -> None:
        """Forget everything taken in."""
        raise NotImplementedError

    def process(self, mo: Any, gt: Any) -> None:
        """Take in a batch: model output and ground truth."""
        raise NotImplementedError

    def evaluate(self) -> OrderedDict[str, float]:
        """Print and return the results; the first one ranks models."""
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Prints the block that result parsers read ("=> result", "* accuracy: 81.0%", ...).

    Args:
        lab2cname: label -> class name, for TEST.PER_CLASS_RESULT.
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
        self.total = self.correct = 0  # images of the newest `evaluate`, and the hits among them

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Take in logits (B, C) and labels (B,); they stay on their device until `evaluate`."""
        self._pred.append(mo.detach().argmax(dim=1))
        self._true.append(gt.detach())

    def evaluate(self) -> OrderedDict[str, float]:
        """Print the result block; return accuracy, error_rate and macro_f1 in percent.

        macro_f1 averages over the classes that occur among the labels.
        """
        if not self._true:
            raise UsageError("nothing to evaluate: the split has no image")
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
            self._save_confusion(true, pred)
        return results

    def _print_per_class(self, true: np.ndarray, pred: np.ndarray) -> float:
        """Print the accuracy of each class that occurs; return their mean."""
        assert self._lab2cname is not None  # __init__ made sure
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

    def _save_confusion(self, true: np.ndarray, pred: np.ndarray) -> None:
        """Save the confusion matrix, rows (true classes) summing to 1, as OUTPUT_DIR/cmat.pt."""
        path = os.path.join(self.cfg.OUTPUT_DIR, "cmat.pt")
        with atomic_path(path) as temporary:
            torch.save(torch.from_numpy(confusion_matrix(true, pred, normalize="true")), temporary)
        print(f"Confusion matrix is saved to {path}")
