"""What all tests on a GPU share: they are marked, and skipped where there is none."""

from pathlib import Path

import pytest
import torch

from tests.trainers.toy_runs import ToyWorld

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    for item in items:
        if HERE in item.path.parents:  # the hook sees the items of all folders
            item.add_marker(pytest.mark.gpu)
            item.add_marker(skip)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def no_tf32():
    # By hand: monkeypatch cannot put back an attribute that its owner computes.
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = False
    yield
    for place, value in zip(places, before, strict=True):
        place.allow_tf32 = value
