"""ImageNet-A: 7,500 natural photographs that fool ResNets, of 200 ImageNet classes; test only.

Hendrycks et al., Natural Adversarial Examples, CVPR 2021,
https://github.com/hendrycks/natural-adv-examples. Put ImageNet's classnames.txt into
imagenet-adversarial/. Accuracy is over the 200 classes, not over 1,000.
"""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Counts
from .imagenet import ShiftedImageNet


@DATASET_REGISTRY.register()
class ImageNetA(ShiftedImageNet):
    dataset_dir = "imagenet-adversarial"
    image_dir = "imagenet-a"
    images_url = "https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar"
    counts = Counts(classes=200, test=7500)
