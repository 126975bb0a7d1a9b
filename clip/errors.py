"""The error raised when a CLIP model cannot be found, read or built."""

from dassl.utils.errors import UsageError, nearest

__all__ = ["WeightsError", "nearest"]


class WeightsError(UsageError):
    """CLIP weights that are missing, broken or of another architecture."""
