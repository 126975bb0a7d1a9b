"""The registry of datasets."""

from yacs.config import CfgNode

from dassl.utils import Registry, UsageError, nearest

from .base_dataset import DatasetBase

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg: CfgNode) -> DatasetBase:
    """Build the dataset ``cfg.DATASET.NAME``.

    Raises:
        UsageError: it is not registered, or DATASET.ROOT is empty: the working folder, into which
            no dataset should be read or written by accident.
    """
    name, allowed = cfg.DATASET.NAME, DATASET_REGISTRY.registered_names()
    if name not in allowed:
        raise UsageError(f"DATASET.NAME is {name!r}: {nearest(name, allowed)}")
    root = cfg.DATASET.ROOT
    if not root.strip() or "\0" in root:
        raise UsageError(
            f"DATASET.ROOT (--root) is {root!r}: set it to the folder that contains your datasets, "
            "or '.' for the current one"
        )
    if cfg.VERBOSE:
        print(f"Loading dataset: {name}")
    return DATASET_REGISTRY.get(name)(cfg)
