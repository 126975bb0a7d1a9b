"""Evaluators: accuracy, macro F1, per-class accuracy and the confusion matrix of a classifier."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from yacs.config import CfgNode

from ..class_tables import (
    ClassResult,
    class_results,
    count_confusions,
    save_class_results,
    save_confusion_matrix,
)
from ..utils.errors import UsageError
from .build import EVALUATOR_REGISTRY


class EvaluatorBase:
    """Interface of an evaluator; ``split`` is what a trainer tests: "val" or "test"."""

    split = ""

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

    ``lab2cname`` maps the labels of all classes to their names. The tables of TEST.PER_CLASS_RESULT
    and TEST.COMPUTE_CMAT have a row for each of them, whichever occur in a test. Without it, the
    confusion matrix has a row for each column of the logits.
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
        self._width = 0  # C
        self.total = self.correct = 0  # of the last `evaluate`

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Add logits (B, C) and labels (B,); they stay on their device until `evaluate`."""
        self._width = max(self._width, mo.shape[1])
        self._pred.append(mo.detach().argmax(dim=1))
        self._true.append(gt.detach())

    def evaluate(self) -> OrderedDict[str, float]:
        """Print the result block; return accuracy, error_rate and macro_f1 in percent.

        macro_f1 is the average over the classes that occur among the labels.

        Raises:
            UsageError: there are no images, or a label is not in ``lab2cname``.
        """
        from sklearn.metrics import f1_score  # slow to import; not needed before the first epoch

        if not self._true:
            raise UsageError("nothing to evaluate: the split has no images")
        true = torch.cat(self._true).cpu().numpy()
        pred = torch.cat(self._pred).cpu().numpy()
        if self._lab2cname is not None:
            _check_named(true, self._lab2cname)
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
            results["perclass_accuracy"] = self._report_classes(true, pred)
        if self.cfg.TEST.COMPUTE_CMAT:
            self._report_confusions(true, pred)
        return results

    def _report_classes(self, true: np.ndarray, pred: np.ndarray) -> float:
        """Print and save the result of each class; return the mean over those with images."""
        assert self._lab2cname is not None  # checked in __init__
        rows = class_results(true, pred, self._lab2cname)
        print("=> per-class result")
        for row in rows:
            print(_line(row))
        mean = float(np.mean([row.accuracy for row in rows if row.accuracy is not None]))
        print(f"* average: {mean:.1f}%")
        path = save_class_results(rows, mean, self.split, self.cfg.OUTPUT_DIR)
        print(f"Per-class results are saved to {path}")
        return mean

    def _report_confusions(self, true: np.ndarray, pred: np.ndarray) -> None:
        """Save the confusion matrix (C, C) of all classes."""
        names = self._lab2cname
        if names is None:
            names = {label: str(label) for label in range(self._width)}
        counts = count_confusions(true, pred, names)
        path = save_confusion_matrix(counts, names, self.split, self.cfg.OUTPUT_DIR)
        print(f"Confusion matrix is saved to {path}")


def _line(row: ClassResult) -> str:
    accuracy = "none" if row.accuracy is None else f"{row.accuracy:.1f}%"
    return (
        f"* class: {row.label} ({row.name})\ttotal: {row.images:,}\t"
        f"correct: {row.correct:,}\tacc: {accuracy}"
    )


def _check_named(true: np.ndarray, names: Mapping[int, str]) -> None:
    """Raise a UsageError if an image has a label that no class of the list has."""
    missing = sorted(set(np.unique(true).tolist()) - set(names))
    if missing:
        images = int(np.isin(true, missing).sum())
        raise UsageError(
            f"{images:,} of {len(true):,} tested images have labels without a class name "
            f"({', '.join(map(str, missing[:3]))}{', ...' if missing[3:] else ''}; the class list "
            f"has {len(names):,} names): no training image has these labels, so remove the "
            "dataset's few-shot file (split_fewshot/) to draw the shots again, or correct its "
            "split file"
        )
