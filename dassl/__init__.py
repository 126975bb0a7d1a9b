"""The part of Dassl's API that prompt-learning code is written against, on today's PyTorch.

An independent implementation under the import paths of Dassl.pytorch 0.6.3
(https://github.com/KaiyangZhou/Dassl.pytorch). Domain-adaptation and semi-supervised trainers,
CNN backbones and their datasets are out of scope and say so when asked for.
"""

__version__ = "0.6.3"  # the version of the API, not of this project
