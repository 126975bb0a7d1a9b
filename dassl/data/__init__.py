"""Data sets, transforms, samplers and loaders (the data side of Dassl's API)."""

from .data_manager import DataManager, DatasetWrapper

__all__ = ["DataManager", "DatasetWrapper"]
