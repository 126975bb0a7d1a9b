"""Load a run folder as a `Classifier`."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dassl.data.transforms import build_transform

from ..checkpoints.fingerprints import check_clip_fingerprint
from ..checkpoints.load import load_trained
from ..settings import SettingsError
from .building import Builder, config_of
from .classifier import Classifier, check_classnames, require_shared_parameters, warn_about_classes
from .quiet import log_to_stderr
from .recorded import read_recorded
from .selection import choose_epoch, describe_epoch

__all__ = ["load"]


def load(
    run: "str | os.PathLike[str]",
    epoch: int | None = None,
    *,
    classnames: Sequence[str] | None = None,
    backbone: str | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    batch_size: int = 32,
    settings: Mapping[str, Any] | None = None,
    verbose: bool = False,
) -> Classifier:
    """Load the model of a run folder; its data, config and teacher are not needed.

    Args:
        run: output folder of a training, or of scripts/convert_checkpoint.py --to ours.
        epoch: of the checkpoint. By default the run's recorded selection decides: the last epoch
            for last_step, the best one for best_val.
        classnames: the classes to distinguish, by default those of the training. See
            `Classifier.with_classes`.
        backbone: CLIP by name or path, by default the recorded one; its fingerprint is checked.
        device: by default CUDA if available, otherwise the CPU.
        precision: fp32, amp, bf16 or fp16 (docs/precision.md), by default the training's.
        batch_size: images that are encoded at once.
        settings: config keys that replace those of the folder or are missing in it, such as
            {"TRAINER.PROMPTKD.TEACHER_WEIGHTS": "teacher/VLPromptLearner/model.pth.tar-20"}.
        verbose: print all lines of the log; otherwise only warnings and one summary line, all on
            stderr.

    Raises:
        SettingsError, dassl.utils.UsageError: the folder or an argument is not usable.
    """
    target = _device(device)
    if batch_size < 1:
        raise SettingsError(f"batch_size must be at least 1, got {batch_size}")
    with log_to_stderr(verbose):
        classifier = _load(
            os.fspath(run),
            epoch,
            classnames,
            backbone,
            target,
            precision,
            batch_size,
            settings or {},
        )
    print(classifier.description, file=sys.stderr)
    return classifier


def _load(
    folder: str,
    epoch: int | None,
    classnames: Sequence[str] | None,
    backbone: str | None,
    device: torch.device,
    precision: str | None,
    batch_size: int,
    settings: Mapping[str, Any],
) -> Classifier:
    recorded = read_recorded(folder)
    names = recorded.classes if classnames is None else check_classnames(classnames)
    if not names:
        raise recorded.missing("the class names", "them as classnames (--classes)")
    name = backbone or recorded.backbone
    if not name:
        raise recorded.missing("the backbone", 'it as backbone (--backbone), such as "ViT-B/16"')
    cfg, notes = config_of(recorded, name, settings)
    for note in notes:
        print(f"warning: {note}")
    builder = Builder(cfg, device)
    builder.trained_names = recorded.classes or names
    clip_model = builder.load_clip(precision)
    check_clip_fingerprint(folder, clip_model, "backbone", name)
    model = builder.build(clip_model, names)
    modules = model.trainable_modules()
    checkpoint = ""
    if modules:
        if recorded.classes and names != recorded.classes:
            require_shared_parameters(model, cfg)
        epoch = choose_epoch(recorded, list(modules), epoch)
        load_trained(modules, folder, epoch, clip_model, names)
        checkpoint = describe_epoch(recorded, epoch)
        last = recorded.settings.get("OPTIM.MAX_EPOCH")
        if recorded.selection == "last_step" and epoch is not None and last and epoch < last:
            print(f"warning: epoch {epoch} of {last} is not the model that the run selects")
    elif epoch is not None:
        raise SettingsError(f"{recorded.method} has no checkpoints: leave the epoch out")
    warn_about_classes(model, names, builder)
    transform: Any = build_transform(cfg, is_train=False)  # None only with INPUT.NO_TRANSFORM
    return Classifier(model, names, transform, builder, batch_size, epoch, checkpoint)


def _device(device: str | torch.device | None) -> torch.device:
    """Return the device; raise SettingsError if there is none of this name."""
    found = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(found)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(
            f"device {str(found)!r} cannot be used ({reason}): choose cpu, or a CUDA device of "
            "this machine"
        ) from error
    return target
