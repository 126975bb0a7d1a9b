"""OxfordFlowers: 102 kinds of flowers.

Nilsback and Zisserman, Automated Flower Classification over a Large Number of Classes, ICVGIP 2008,
https://www.robots.ox.ac.uk/~vgg/data/flowers/102/ (102flowers.tgz, MD5
52808999861908f626f3c1f4e79d11fa). Neither imagelabels.mat nor cat_to_name.json is needed beside the
split file.
"""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Counts, SplitDataset


@DATASET_REGISTRY.register()
class OxfordFlowers(SplitDataset):
    dataset_dir = "oxford_flowers"
    image_dir = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"
    images_url = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz"
    split_url = "https://drive.google.com/file/d/1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT"
    counts = Counts(classes=102, train=4093, val=1633, test=2463)
