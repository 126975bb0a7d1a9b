"""Datasets, one file each; importing this package registers all of them.

Any file in this folder is imported, so a new dataset needs no other change.
"""

from dassl.data.datasets import DATASET_REGISTRY

# The modules with this project's datasets; files that are added to the folder come after them.
OWN = (
    *("caltech101", "critters", "dtd", "eurosat", "fgvc_aircraft", "food101", "image_folder"),
    *("imagenet", "imagenet_a", "imagenet_r", "imagenet_sketch", "imagenetv2", "oxford_flowers"),
    *("oxford_pets", "stanford_cars", "sun397", "ucf101"),
)

DATASET_REGISTRY.import_files(
    __name__, __path__, first=OWN, skip=("__main__", "critters_world", "download")
)
