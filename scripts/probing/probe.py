"""Probe runs: what their texts read, what replacing the read changes, and how entries are used."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dassl.engine.run_records import FINISHED, RUN, read_run_record
from dassl.utils import UsageError
from dassl.utils.env import git_commit

from .entries import absent, entry_uses
from .reads import RANDOM_SEED, VERSIONS
from .records import Half, Probe, Probes
from .run import Run, halves, open_run
from .scoring import replacements, score, statistics
from .settings import changed_settings

__all__ = ["check_finished", "measure", "probe"]


def check_finished(folder: Path) -> None:
    """Raise UsageError if run.json says that the run has not finished."""
    status = read_run_record(folder).get("status", FINISHED)
    if status != FINISHED:
        raise UsageError(
            f"the run in {str(folder)!r} has not finished ({RUN}: {status}): start it again with "
            "the same command, which continues it, and probe it then"
        )


def probe(
    folders: Sequence[Path],
    root: str = "",
    max_images: int | None = None,
    device: str | None = None,
    seed: int = RANDOM_SEED,
) -> Probes:
    """Return the measures of all runs.

    Args:
        root, max_images, device: as in `scripts.probing.run.open_run`.
        seed: of the random rows.

    Raises:
        UsageError, SettingsError: a folder, its model or its images are not usable, the run has not
            finished, or it has no cache.
    """
    # All folders are opened before the first one is measured, so that a wrong one is named at once.
    runs = []
    for folder in folders:
        check_finished(folder)
        run = open_run(folder, root, max_images, device)
        if run.is_test:
            check_finished(run.model_folder)
        if reason := absent(run):
            raise UsageError(f"{str(folder)!r} cannot be probed: {reason} Give a run with a cache")
        runs.append(run)
    found = [measure(run, seed) for run in runs]
    return Probes(random_seed=seed, versions=VERSIONS, commit=git_commit(), runs=found)


def measure(run: Run, seed: int = RANDOM_SEED) -> Probe:
    """Return the measures of a run with a cache; ``seed`` is that of the random rows."""
    started = time.perf_counter()
    parts = [_half(part, seed) for part in halves(run)]
    epochs = entry_uses(run)
    seconds = time.perf_counter() - started
    images = sum(part.images for part in parts) + len(run.train)
    print(
        f"{run.name}: {images:,} images in {seconds:.1f} s ({images / seconds:,.0f} images/s)",
        file=sys.stderr,
    )
    refiner, records = run.classifier.model.refiner, run.records
    assert refiner is not None  # `absent` was asked
    return Probe(
        folder=str(run.folder),
        model_folder=str(run.model_folder),
        method=run.classifier.method,
        dataset=run.dataset,
        seed=run.cfg.SEED,
        shots=run.cfg.DATASET.NUM_SHOTS,
        backbone=run.classifier.backbone,
        clip=records["run"].get("clip", {}),
        precision=run.classifier.precision,
        device=str(run.classifier.device),
        checkpoint=run.classifier.checkpoint,
        commit=records["checkpoint"].get("commit"),
        settings=changed_settings(run.cfg),
        cache_size=len(refiner.cache.entries),
        alpha=refiner.alpha,
        halves=parts,
        epochs=epochs,
        train_images=len(run.train),
    )


def _half(run: Run, seed: int) -> Half:
    """Return the measures of a run on its test images."""
    scores = score(run, seed)
    assert scores.read is not None
    return Half(
        classes=run.class_group,
        split=run.split,
        images=len(run.test),
        of_images=run.test_size,
        data=run.records["data"],
        reading=statistics(scores.read, run.classes),
        replacements=replacements(scores),
    )
