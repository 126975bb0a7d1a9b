"""AutoAugment policies (Cubuk et al., arXiv:1805.09501) under the original's names.

They are torchvision's, as the transforms imagenet_policy, cifar10_policy and svhn_policy.
"""

from collections.abc import Sequence

from torchvision.transforms import AutoAugment, AutoAugmentPolicy

GRAY = (128, 128, 128)


class ImageNetPolicy(AutoAugment):
    """The policy of ImageNet; ``fillcolor`` fills areas outside of the image."""

    def __init__(self, fillcolor: Sequence[float] = GRAY) -> None:
        super().__init__(AutoAugmentPolicy.IMAGENET, fill=list(fillcolor))


class CIFAR10Policy(AutoAugment):
    """The policy of CIFAR-10; ``fillcolor`` fills areas outside of the image."""

    def __init__(self, fillcolor: Sequence[float] = GRAY) -> None:
        super().__init__(AutoAugmentPolicy.CIFAR10, fill=list(fillcolor))


class SVHNPolicy(AutoAugment):
    """The policy of SVHN; ``fillcolor`` fills areas outside of the image."""

    def __init__(self, fillcolor: Sequence[float] = GRAY) -> None:
        super().__init__(AutoAugmentPolicy.SVHN, fill=list(fillcolor))
