"""The head and the tail of a run's log: what is run on what, and what came out."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ..config.table import leaves
from .run_records import RESULT

PARTS = (("train_x", "train"), ("train_u", "unlabeled"), ("val", "val"), ("test", "test"))
SHOWN = 3  # first and last class names
MAX_NAME = 60  # characters of a class name


def settings_head(args: argparse.Namespace, cfg: CfgNode, defaults: CfgNode) -> str:
    """Return the given arguments, and the settings in ``cfg`` that differ from ``defaults``."""
    given = {name: value for name, value in sorted(vars(args).items()) if _is_given(value)}
    known = dict(leaves(defaults))
    changed = {key: value for key, value in leaves(cfg) if _differs(value, known.get(key))}
    lines = ["** Arguments **", *(f"{name}: {value}" for name, value in given.items())]
    lines += ["** Settings that differ from the defaults **"]
    lines += [f"{key}: {value}" for key, value in changed.items()]
    if cfg.OUTPUT_DIR and (args.eval_only or not args.no_train):
        lines.append(f"All settings: {Path(cfg.OUTPUT_DIR) / 'config.yaml'}")
    return "\n".join(lines)


def _is_given(value: Any) -> bool:
    return value is not None and value is not False and value != "" and value != []


def _differs(value: Any, default: Any) -> bool:
    if isinstance(value, (list, tuple)) and isinstance(default, (list, tuple)):
        return list(value) != list(default)
    return bool(value != default)


def run_head(trainer: Any) -> str:
    """Return the data, class names and backbone of a built trainer, a line for each.

    A trainer without a dataset of labeled images, as another code base may have, has fewer lines.
    """
    dataset = getattr(getattr(trainer, "dm", None), "dataset", None)
    return "\n".join(["** Run **", *_data_lines(dataset), *_model_lines(trainer)])


def _data_lines(dataset: Any) -> Iterator[str]:
    if dataset is None:
        return
    classes: Sequence[str] = list(getattr(dataset, "classnames", ()))
    counts = [(name, len(getattr(dataset, part, None) or ())) for part, name in PARTS]
    images = ", ".join(f"{count:,} {name}" for name, count in counts if count)
    name = getattr(dataset, "display_name", type(dataset).__name__)
    every = len(getattr(dataset, "all_classnames", classes))
    of = f" of {every:,}" if every != len(classes) else ""
    yield f"Data: {name}, {len(classes):,}{of} classes, images: {images}"
    shown = [_shown(text) for text in classes]
    if len(shown) > 2 * SHOWN:
        shown = [*shown[:SHOWN], "...", *shown[-SHOWN:]]
    yield f"Classes: {', '.join(shown)}"


def _shown(name: str) -> str:
    text = name if name.isprintable() else repr(name)
    return text if len(text) <= MAX_NAME else f"{text[:MAX_NAME]}..."


def _model_lines(trainer: Any) -> Iterator[str]:
    cfg = trainer.cfg
    size = " x ".join(map(str, cfg.INPUT.SIZE))
    precision = getattr(trainer, "precision", None)
    parts = [cfg.MODEL.BACKBONE.NAME or "none", f"images {size}", str(trainer.device)]
    yield f"Backbone: {', '.join([*parts, precision] if precision else parts)}"


def tail(tested: Mapping[str, Any], total: int, folder: str) -> str:
    """Return the result of a run and the path of its record.

    Args:
        tested: the trainer's ``last_test``, with "accuracy" in percent and "split".
        total: number of tested images.
    """
    # The space before the sign: parse_test_res.py reads numbers with "%" as results.
    result = f"{tested['accuracy']:.2f} % of {total:,} {tested['split']} images are classified"
    return f"Result: {result} correctly\nRecord: {Path(folder) / RESULT}"
