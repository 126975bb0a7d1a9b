"""DescribableTextures (DTD): 47 textures named by adjectives.

Cimpoi et al., Describing Textures in the Wild, CVPR 2014, https://www.robots.ox.ac.uk/~vgg/data/dtd/
(dtd-r1.0.1.tar.gz, MD5 fff73e5086ae6bdbea199a49dfb8a4c1).

Dataset files written for CoOp use read_and_split_data of this class.
"""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Counts, SplitDataset
from .split import split_folders


@DATASET_REGISTRY.register()
class DescribableTextures(SplitDataset):
    dataset_dir = "dtd"
    image_dir = "images"
    split_file = "split_zhou_DescribableTextures.json"
    images_url = "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz"
    split_url = "https://drive.google.com/file/d/1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x"
    counts = Counts(classes=47, train=2820, val=1128, test=1692)

    read_and_split_data = staticmethod(split_folders)
