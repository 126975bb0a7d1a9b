"""UCF101: the middle frames of videos of 101 human actions.

Soomro et al., UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild, 2012. The
frames (UCF-101-midframes.zip) come from the authors of CoOp. The lists of the videos
(ucfTrainTestlist) are not needed beside the split file.
"""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Counts, SplitDataset


@DATASET_REGISTRY.register()
class UCF101(SplitDataset):
    dataset_dir = "ucf101"
    image_dir = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"
    images_url = "https://drive.google.com/file/d/10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O"
    split_url = "https://drive.google.com/file/d/1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y"
    counts = Counts(classes=101, train=7639, val=1898, test=3783)
