"""Fixtures that several test folders share."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

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


@pytest.fixture
def same_threads() -> Iterator[None]:
    """For tests of what sets PyTorch's number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
