"""Caltech101: photographs of 100 kinds of objects.

Fei-Fei et al., Learning Generative Visual Models from Few Training Examples, CVPR-W 2004,
https://data.caltech.edu/records/mzrjq-6wc02 (a zip, MD5 3138e1922a9193bfa496528edbbc45d0, with
101_ObjectCategories.tar.gz, MD5 b224c7392d521a49829488ab0f1120d9). The split leaves out the folders
BACKGROUND_Google and Faces_easy, and renames four classes, such as "airplanes" to "airplane".
"""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Counts, SplitDataset


@DATASET_REGISTRY.register()
class Caltech101(SplitDataset):
    dataset_dir = "caltech-101"
    image_dir = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"
    images_url = "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip"
    split_url = "https://drive.google.com/file/d/1hyarUivQE36mY6jSomru6Fjd-JzwcCzN"
    counts = Counts(classes=100, train=4128, val=1649, test=2465)
