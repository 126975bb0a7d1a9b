"""The arguments of predict.py and export.py that say how a run folder is loaded."""

import argparse
from typing import Any

from dassl.config.flat import decode


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --epoch, --backbone and --set."""
    add = parser.add_argument
    add("--epoch", type=int, default=None, help="default: the run's own selection")
    add("--backbone", default=None, help="CLIP by name or path; default: the recorded one")
    add(
        "--set",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="a setting that the folder does not record",
    )


def load_model(args: argparse.Namespace, **options: Any) -> Any:
    """Return the `trainers.classifier.Classifier` of args.run."""
    from trainers.classifier import load  # imports torch, which --help does not need

    settings = {key: decode(value) for key, value in args.set}
    return load(args.run, args.epoch, backbone=args.backbone, settings=settings, **options)
