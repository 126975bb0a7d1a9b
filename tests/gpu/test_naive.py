"""Fast against naive on CUDA: the same numbers in float64 and float32, less memory."""

import pytest
import torch

from benchmarks import child
from benchmarks.world import TOY, World
from tests.benchmarks.test_naive import CASES, TOLERANCES, assert_equals_the_trainer
from tests.trainers.toy_runs import ToyWorld

DEVICE = "cuda"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


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


@pytest.mark.parametrize("dtype", TOLERANCES, ids=["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_step_and_test_equal_the_trainers(world, name, dtype, tmp_path):
    assert_equals_the_trainer(world, name, tmp_path, dtype, DEVICE)


@pytest.mark.parametrize("name", ["CoOp", "TextRefinerCoOp"])
def test_a_step_with_1000_classes_needs_a_quarter_of_the_memory(name, tmp_path):
    # Each in a process of its own, so that no other test's memory counts.
    world = World(tmp_path, TOY, cuda=DEVICE == "cuda")
    naive, fast = (
        child.measure(world, "memory", kind, name, 1000, 4)["bytes"] for kind in ("naive", "fast")
    )
    assert naive > 4 * fast > 0
