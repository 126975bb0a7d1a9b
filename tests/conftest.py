"""Fixtures shared by several test folders."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent
DATA = TESTS / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure coverage in the tests of trainers/ only: Python is a third slower while it is on."""
    for item in items:
        if TESTS / "trainers" not in item.path.parents:
            item.add_marker("no_cover")


@pytest.fixture(scope="session")
def release_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the authors' checkpoints in ``release_run/``, and clip_tiny.pt.

    The checkpoints are stored zipped: most of their 41 MB are zero rows of the vocabulary.
    """
    folder = tmp_path_factory.mktemp("release")
    with zipfile.ZipFile(DATA / "release_run.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def same_threads() -> Iterator[None]:
    """Restore PyTorch's number of threads after the test."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
