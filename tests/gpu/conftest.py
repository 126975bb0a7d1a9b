"""Shared by all GPU tests: they are marked, and skipped without a GPU."""

from pathlib import Path

import pytest
import torch

from tests.trainers.toy_runs import ToyWorld

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    for item in items:
        if HERE in item.path.parents:  # the hook is called with the items of all folders
            item.add_marker(pytest.mark.gpu)
            item.add_marker(skip)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def no_tf32():
    # Not with monkeypatch, which cannot restore a computed attribute.
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = False
    yield
    for place, value in zip(places, before, strict=True):
        place.allow_tf32 = value
