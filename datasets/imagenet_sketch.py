"""ImageNet-Sketch: 50,889 black and white sketches of the 1,000 ImageNet classes; test only.

Wang et al., Learning Robust Global Representations by Penalizing Local Predictive Power, NeurIPS
2019, https://github.com/HaohanWang/ImageNet-Sketch. The archive unpacks to sketch/: rename that
folder to imagenet-sketch/images, and put ImageNet's classnames.txt beside it.
"""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Counts
from .imagenet import ShiftedImageNet


@DATASET_REGISTRY.register()
class ImageNetSketch(ShiftedImageNet):
    dataset_dir = "imagenet-sketch"
    image_dir = "images"
    images_url = (
        "https://drive.google.com/file/d/1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA (unpacks to sketch/)"
    )
    counts = Counts(classes=1000, test=50_889)
