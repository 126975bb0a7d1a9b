"""RandAugment and its variants under the original's names."""

from torchvision.transforms import RandAugment as _RandAugment

from .extras import RandAugment2, RandAugmentFixMatch

__all__ = ["RandAugment", "RandAugment2", "RandAugmentFixMatch"]


class RandAugment(_RandAugment):
    """torchvision's RandAugment with ``n`` operations of strength ``m`` (0 to 30)."""

    def __init__(self, n: int = 2, m: int = 10) -> None:
        super().__init__(n, m)
