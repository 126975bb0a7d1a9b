"""Food101: photographs of 101 dishes.

Bossard et al., Food-101 - Mining Discriminative Components with Random Forests, ECCV 2014,
https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/ (food-101.tar.gz, MD5
85eeb15f3717b99a5da872d97d918f87).
"""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Counts, SplitDataset


@DATASET_REGISTRY.register()
class Food101(SplitDataset):
    dataset_dir = "food-101"
    image_dir = "images"
    split_file = "split_zhou_Food101.json"
    images_url = "https://data.vision.ee.ethz.ch/cvl/food-101.tar.gz"
    split_url = "https://drive.google.com/file/d/1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl"
    counts = Counts(classes=101, train=50_500, val=20_200, test=30_300)
