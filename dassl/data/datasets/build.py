"""The registry of datasets."""

from yacs.config import CfgNode

from dassl.utils import Registry, UsageError, nearest

from .base_dataset import DatasetBase

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg: CfgNode) -> DatasetBase:
    """Build the dataset ``cfg.DATASET.NAME``; raise a UsageError if it is not registered."""
    name, allowed = cfg.DATASET.NAME, DATASET_REGISTRY.registered_names()
    if name not in allowed:
        DATASET_REGISTRY.check_left_out(name)
        raise UsageError(f"DATASET.NAME is {name!r}: {nearest(name, allowed)}")
    if cfg.VERBOSE:
        print(f"Loading dataset: {name}")
    return DATASET_REGISTRY.get(name)(cfg)
