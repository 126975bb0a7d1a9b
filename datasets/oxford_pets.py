"""OxfordPets: 37 breeds of cats and dogs.

Parkhi et al., Cats and Dogs, CVPR 2012, https://www.robots.ox.ac.uk/~vgg/data/pets/ (images.tar.gz,
MD5 5c4f3ee8e5d25df40f4fd59a7f44e54c). The annotations are not needed beside the split file.

Dataset files written for CoOp use helpers of this class: read_split, save_split,
split_trainval, subsample_classes.
"""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Counts, SplitDataset


@DATASET_REGISTRY.register()
class OxfordPets(SplitDataset):
    dataset_dir = "oxford_pets"
    image_dir = "images"
    split_file = "split_zhou_OxfordPets.json"
    images_url = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz"
    split_url = "https://drive.google.com/file/d/1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs"
    counts = Counts(classes=37, train=2944, val=736, test=3669)
