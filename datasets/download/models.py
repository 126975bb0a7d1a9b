"""Fetch OpenAI's CLIP weights, and say where PromptKD's teachers are."""

import os
from pathlib import Path

from dassl.utils import UsageError, nearest

from .fetch import locked, obtain
from .sources import Source

CLIP = "clip:"
TEACHERS = "promptkd-teachers"
TEACHERS_TEXT = """\
PromptKD's teachers cannot be fetched: their authors published no checksums and no direct address
(README of github.com/zhengli97/PromptKD). They can be had by hand from
  Google Drive, a part of them:
    https://drive.google.com/drive/folders/1OdQ9WauZmYAzVSUTTw7tIKKChyECIS5B
  Baidu: https://pan.baidu.com/s/1KNJ1mhNKoxdSli4ZldeZUg (code mjf4)
  TeraBox: the link in that README
Set TRAINER.PROMPTKD.TEACHER_WEIGHTS to the file of your dataset, or train a teacher:
  python scripts/run.py promptsrc teacher DATASET 1
"""


def clip_source(name: str) -> Source:
    """Return the address and SHA-256 of OpenAI's model ``name``, such as "ViT-B/16".

    Raises:
        UsageError: OpenAI has no such model.
    """
    from clip.openai import MODELS

    if name not in MODELS:
        raise UsageError(f"OpenAI has no CLIP model {name!r}: {nearest(name, MODELS)}")
    sha256, filename = MODELS[name].split("/")[-2:]
    return Source(url=MODELS[name], name=filename, sha256=sha256)


def clip_path(name: str) -> Path:
    """Return where clip.load looks for the weights of OpenAI's model ``name``."""
    from clip.openai import cache_folder

    return cache_folder() / clip_source(name).name


def fetch_clip(name: str, mirror: str | None = None) -> bool:
    """Download OpenAI's weights to where clip.load finds them; return whether they were missing.

    A mirror has the file at MIRROR/clip/<file>.
    """
    from .address import on_mirror

    source, path = clip_source(name), clip_path(name)
    if path.exists():
        return False
    work = path.parent / ".fetch" / "clip"
    with locked(work):
        os.replace(obtain(on_mirror(source, mirror, "clip") if mirror else source, work), path)
    return True
