"""The error raised when a CLIP model cannot be found, read or built."""

from pathlib import Path

from dassl.utils.errors import UsageError, nearest

__all__ = ["ChangedClipError", "WeightsError", "nearest"]


class WeightsError(UsageError):
    """CLIP weights that are missing, broken or of another architecture."""


class ChangedClipError(WeightsError, AttributeError):
    """A call that only the changed clip/ of a trainer's repository understands.

    It is an AttributeError, so that hasattr is False for a function of such a clip/.
    """

    def __init__(self, call: str) -> None:
        super().__init__(
            f"{call}, so its trainer needs the changed clip/ of its repository: in that repository "
            f"run PYTHONPATH={Path(__file__).resolve().parents[1]} python train.py ..., which uses "
            "its clip/ and trainers/ with this project's dassl (docs/coop_users.md)"
        )
