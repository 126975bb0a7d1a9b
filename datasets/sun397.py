"""SUN397: 397 kinds of scenes.

Xiao et al., SUN Database: Large-scale Scene Recognition from Abbey to Zoo, CVPR 2010. The official
archive SUN397.tar.gz (37 GB, MD5 8ca2778205c41d23104230ba66911c7a) at vision.princeton.edu has been
gone since 2025. Class names are the parts of the folder's path in reverse, with spaces for
underscores: a/apartment_building/outdoor is "outdoor apartment building". ClassName.txt and the
partitions are not needed beside the split file.
"""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Counts, SplitDataset


@DATASET_REGISTRY.register()
class SUN397(SplitDataset):
    dataset_dir = "sun397"
    image_dir = "SUN397"
    split_file = "split_zhou_SUN397.json"
    images_url = "https://huggingface.co/datasets/koorye/SUN397"
    split_url = "https://drive.google.com/file/d/1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq"
    counts = Counts(classes=397, train=15_880, val=3970, test=19_850)
