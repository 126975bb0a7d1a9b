"""configs/datasets: each file has CoOp's name and sets one registered dataset."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import datasets  # noqa: F401  (registers the datasets)
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY

CONFIGS = Path(__file__).parents[2] / "configs/datasets"
COOP = {
    "caltech101": "Caltech101",
    "dtd": "DescribableTextures",
    "eurosat": "EuroSAT",
    "fgvc_aircraft": "FGVCAircraft",
    "food101": "Food101",
    "imagenet": "ImageNet",
    "imagenet_a": "ImageNetA",
    "imagenet_r": "ImageNetR",
    "imagenet_sketch": "ImageNetSketch",
    "imagenetv2": "ImageNetV2",
    "oxford_flowers": "OxfordFlowers",
    "oxford_pets": "OxfordPets",
    "stanford_cars": "StanfordCars",
    "sun397": "SUN397",
    "ucf101": "UCF101",
}


@pytest.mark.parametrize(("name", "dataset"), COOP.items())
def test_coops_files_set_coops_datasets(name, dataset):
    cfg = get_cfg_default()
    cfg.merge_from_file(str(CONFIGS / f"{name}.yaml"))
    assert dataset == cfg.DATASET.NAME


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_sets_a_registered_dataset(path):
    assert yaml.safe_load(path.read_text())["DATASET"]["NAME"] in (
        DATASET_REGISTRY.registered_names()
    )
