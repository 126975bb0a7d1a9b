"""Save and load a teacher's text features by class name, a small file beside the checkpoints.

Testing a student needs only the text features of its teacher. Training saves them for all classes
of the dataset, so that a test needs neither the teacher's weights nor its CLIP
(docs/checkpoints.md).
"""

import hashlib
import os
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dassl.utils import load_checkpoint

from ..settings import SettingsError

__all__ = [
    "FILE",
    "TeacherText",
    "check_teacher",
    "fingerprint",
    "read_teacher_text",
    "write_teacher_text",
]

FILE = "teacher_text.pt"


class TeacherText(NamedTuple):
    """Text features by class name, and the teacher that computed them."""

    features: dict[str, Tensor]  # class name, as in a prompt -> (d,), of unit norm
    teacher: str  # name or path of the teacher's CLIP
    weights: str  # checkpoint of its prompts
    fingerprint: str  # of these prompts, to compare teachers
    context: str  # initial words of its context

    def with_rows(self, rows: Tensor, classnames: Sequence[str]) -> "TeacherText":
        """Return a copy with further features (C, d), in the order of ``classnames``."""
        more = zip(map(_in_prompt, classnames), rows.detach().cpu(), strict=True)
        return self._replace(features={**self.features, **dict(more)})

    def missing(self, classnames: Sequence[str]) -> list[str]:
        """Return the names without features."""
        return [name for name in classnames if _in_prompt(name) not in self.features]

    def rows(self, classnames: Sequence[str]) -> Tensor:
        """Return features (C, d), in the order of ``classnames``."""
        return torch.stack([self.features[_in_prompt(name)] for name in classnames])

    def facts(self) -> dict[str, str]:
        """Return what identifies the teacher, for checkpoint.json."""
        return {"fingerprint": self.fingerprint, "clip": self.teacher, "weights": self.weights}


def check_teacher(facts: Mapping[str, str], prompts: nn.Module, path: str, folder: str) -> None:
    """Raise SettingsError unless ``facts`` identify the teacher with ``prompts``, from ``path``.

    They are those of `TeacherText.facts`, recorded by the student in ``folder``.
    """
    if fingerprint(prompts) != facts.get("fingerprint"):
        raise SettingsError(
            f"the student in {folder} was distilled from another teacher ({facts.get('clip')} with "
            f"{facts.get('weights')}) than the one in {path}: set TRAINER.PROMPTKD.TEACHER_WEIGHTS "
            "to the teacher of the student"
        )


def _in_prompt(classname: str) -> str:
    return classname.replace("_", " ")


def fingerprint(prompts: nn.Module) -> str:
    """Return the sha256 of learned prompts, which does not depend on their file."""
    digest = hashlib.sha256()
    for key, value in sorted(prompts.state_dict().items()):
        digest.update(f"{key} {tuple(value.shape)}".encode())
        digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def write_teacher_text(text: TeacherText, folder: str) -> None:
    """Save ``folder``/teacher_text.pt atomically."""
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
    """Load ``folder``/teacher_text.pt; return None if it does not exist.

    Raises:
        SettingsError: the file is damaged, or contains something else.
    """
    path = os.path.join(folder, FILE)
    if not os.path.isfile(path):
        return None
    try:
        content = load_checkpoint(path)
    except (ValueError, pickle.UnpicklingError) as error:
        raise _invalid(path, "it cannot be read as a checkpoint") from error
    names, rows = content.get("classnames"), content.get("features")
    texts: dict[str, Any] = {
        key: content.get(key) for key in ("teacher", "weights", "fingerprint", "context")
    }
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _invalid(path, "its classnames are no list of texts")
    if len(set(names)) != len(names):
        raise _invalid(path, "its classnames are not unique")
    if not isinstance(rows, Tensor) or not rows.is_floating_point() or rows.dim() != 2:
        raise _invalid(path, "its features are no matrix of floating-point numbers")
    if len(rows) != len(names):
        raise _invalid(path, f"it has {len(rows)} features for {len(names)} classnames")
    if not torch.isfinite(rows).all():
        raise _invalid(path, "its features are not finite")
    for key, value in texts.items():
        if not isinstance(value, str):
            raise _invalid(path, f"its {key} is no text")
    return TeacherText(dict(zip(names, rows, strict=True)), **texts)


def _invalid(path: str, reason: str) -> SettingsError:
    return SettingsError(
        f"{path} does not contain a teacher's text features ({reason}): delete it to load the "
        "teacher instead; training writes it again"
    )
