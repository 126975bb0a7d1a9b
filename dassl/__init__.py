"""The part of Dassl's API that prompt learning code uses, for current PyTorch releases.

An independent implementation under the import paths of Dassl.pytorch 0.6.3
(https://github.com/KaiyangZhou/Dassl.pytorch). Domain-adaptation and semi-supervised trainers,
CNN backbones and their datasets are out of scope; using them raises an error.
"""

__version__ = "0.6.3"  # the version of the API, not of this project
