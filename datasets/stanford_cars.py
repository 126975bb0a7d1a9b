"""StanfordCars: 196 models of cars, named like "2012 Tesla Model S".

Krause et al., 3D Object Representations for Fine-Grained Categorization, ICCV-W 2013. The official
archives cars_train.tgz (MD5 065e5b463ae28d29e77c1b4b166cfe61) and cars_test.tgz (MD5
4ce7ebf6a94d07f1952d94dd34c4d501) at ai.stanford.edu/~jkrause/car196 have been gone since 2023.
Paths in the split file start with cars_train/ or cars_test/. No devkit is needed.
"""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Counts, SplitDataset


@DATASET_REGISTRY.register()
class StanfordCars(SplitDataset):
    dataset_dir = "stanford_cars"
    image_dir = "."
    split_file = "split_zhou_StanfordCars.json"
    images_url = "https://huggingface.co/datasets/koorye/Stanford-Cars"
    split_url = "https://drive.google.com/file/d/1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT"
    counts = Counts(classes=196, train=6509, val=1635, test=8041)
