"""Fixtures that several test folders share."""

import zipfile
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def release_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``release_run/`` (checkpoints written by the authors' release) and clip_tiny.pt.

    They are kept zipped: most of their 41 MB are zero rows of the vocabulary.
    """
    folder = tmp_path_factory.mktemp("release")
    with zipfile.ZipFile(DATA / "release_run.zip") as archive:
        archive.extractall(folder)
    return folder
