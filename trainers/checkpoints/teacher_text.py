"""The teacher's text features by class name: one small file beside a student's checkpoints.

A student is tested with the text features of its teacher and nothing else of it. Training writes
them for every class that the dataset knows, so that a test needs neither the teacher's weights
nor its CLIP (docs/checkpoints.md).
"""

import hashlib
import os
import pickle
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..settings import SettingsError

__all__ = ["FILE", "TeacherText", "fingerprint", "read_teacher_text", "write_teacher_text"]

FILE = "teacher_text.pt"


class TeacherText(NamedTuple):
    """Text features by class name, and whose they are.

    Attributes:
        features: class name, as it stands in a prompt -> (d,), of unit norm.
        teacher: the name or path of the teacher's CLIP.
        weights: the checkpoint that its prompts were read from.
        fingerprint: of those prompts, by which a teacher is recognized.
        context: the words that its context started from.
    """

    features: dict[str, Tensor]
    teacher: str
    weights: str
    fingerprint: str
    context: str

    def with_rows(self, rows: Tensor, classnames: Sequence[str]) -> "TeacherText":
        """The same with more features, (C, d) in the order of ``classnames``."""
        more = zip(map(_spoken, classnames), rows.detach().cpu(), strict=True)
        return self._replace(features={**self.features, **dict(more)})

    def missing(self, classnames: Sequence[str]) -> list[str]:
        """The names that have no features here."""
        return [name for name in classnames if _spoken(name) not in self.features]

    def rows(self, classnames: Sequence[str]) -> Tensor:
        """(C, d), in the order of ``classnames``."""
        return torch.stack([self.features[_spoken(name)] for name in classnames])

    def check(self, prompts: nn.Module, path: str, folder: str) -> None:
        """Raise SettingsError unless these features are of the teacher with ``prompts``.

        Args:
            prompts: a teacher's.
            path: where they were read.
            folder: where these features were found.
        """
        if fingerprint(prompts) != self.fingerprint:
            raise SettingsError(
                f"the student in {folder} was distilled from another teacher ({self.teacher} with "
                f"{self.weights}) than the one in {path}: set TRAINER.PROMPTKD.TEACHER_WEIGHTS to "
                "that one"
            )


def _spoken(classname: str) -> str:
    """A class name as it stands in a prompt."""
    return classname.replace("_", " ")


def fingerprint(prompts: nn.Module) -> str:
    """sha256 of learned prompts: the same for every file that holds them."""
    digest = hashlib.sha256()
    for key, value in sorted(prompts.state_dict().items()):
        digest.update(f"{key} {tuple(value.shape)}".encode())
        digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def write_teacher_text(text: TeacherText, folder: str) -> None:
    """Write ``folder``/teacher_text.pt, whole or not at all."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, FILE)
    content = {
        **text._asdict(),
        "classnames": list(text.features),
        "features": torch.stack(list(text.features.values())),
    }
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        torch.save(content, temporary)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def read_teacher_text(folder: str) -> TeacherText | None:
    """What ``folder``/teacher_text.pt holds; None if there is no such file.

    Raises:
        SettingsError: the file is damaged, or none of `write_teacher_text`.
    """
    path = os.path.join(folder, FILE)
    if not os.path.isfile(path):
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        names, rows = content.pop("classnames"), content.pop("features")
        return TeacherText(dict(zip(names, rows, strict=True)), **content)
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, KeyError, TypeError,
            ValueError) as error:  # fmt: skip
        raise SettingsError(
            f"{path} holds no text features of a teacher ({type(error).__name__}): delete it, and "
            "the teacher itself will be asked; training writes it anew"
        ) from error
