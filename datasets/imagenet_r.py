"""ImageNet-R: 30,000 renditions (art, cartoons, toys, ...) of 200 ImageNet classes; test only.

Hendrycks et al., The Many Faces of Robustness, ICCV 2021,
https://github.com/hendrycks/imagenet-r. Put ImageNet's classnames.txt into
imagenet-rendition/. Accuracy is over the 200 classes, not over 1,000.
"""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Counts
from .imagenet import ShiftedImageNet


@DATASET_REGISTRY.register()
class ImageNetR(ShiftedImageNet):
    dataset_dir = "imagenet-rendition"
    image_dir = "imagenet-r"
    images_url = "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar"
    counts = Counts(classes=200, test=30_000)
