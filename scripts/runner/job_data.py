"""Compare the data of a finished job with what is on the disk now.

The dataset is built as train.py builds it, which reads its files and draws its few-shot images, but
loads no image and does not import torch.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dassl.config import get_cfg_default
from dassl.engine.run_records import data_differences
from dassl.utils import UsageError
from dassl.utils.silence import silent_thread
from scripts.runner.job import Job, Workspace

_KEYS = ("DATASET.", "TRAINER.MODAL")  # what a dataset reads, besides SEED


def other_data(job: Job, workspace: Workspace, recorded: Mapping[str, Any] | None) -> list[str]:
    """Return how a job's data differ from ``recorded``; [] also if either is not known.

    A dataset that is no longer on the disk cannot be compared, which is printed.
    """
    if not recorded:  # by a version that did not record them
        return []
    settings = job.settings(workspace)
    values = {key: value for key, value in settings.items() if key.startswith(_KEYS)}
    root = job.options.get("DATASET.ROOT", str(workspace.data))
    try:
        now = _describe(root, job.seed, tuple(sorted(values.items())))
    except UsageError as error:
        print(f"note  {job.name}: its data cannot be compared with its record ({error})")
        return []
    return data_differences(recorded, now)


@cache  # many jobs have the same data
def _describe(root: str, seed: int, values: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    import datasets  # noqa: F401  # imported for its registrations
    from dassl.data.datasets import DATASET_REGISTRY, build_dataset
    from dassl.data.fingerprint import describe_data

    cfg = get_cfg_default()
    for key, value in {"DATASET.SUBSAMPLE_CLASSES": "all", **dict(values)}.items():
        section, _, leaf = key.rpartition(".")
        cfg[section][leaf] = value
    cfg.DATASET.ROOT, cfg.SEED, cfg.VERBOSE = root, seed, False
    folder = Path(root) / DATASET_REGISTRY.get(cfg.DATASET.NAME).dataset_dir
    if not folder.exists():  # building the dataset might draw or download it
        raise UsageError(f"there is no folder {folder}")
    with silent_thread():
        dataset = build_dataset(cfg)
    return describe_data(dataset, root)
