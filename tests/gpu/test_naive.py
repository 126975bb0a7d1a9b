"""Compare fast with naive on CUDA: equal numbers in float64 and float32, less memory."""

import pytest

from benchmarks import child
from benchmarks.world import TOY, World
from tests.benchmarks.test_naive import CASES, TOLERANCES, assert_equals_the_trainer

DEVICE = "cuda"


@pytest.mark.parametrize("dtype", TOLERANCES, ids=["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_step_and_test_equal_the_trainers(world, name, dtype, tmp_path):
    assert_equals_the_trainer(world, name, tmp_path, dtype, DEVICE)


@pytest.mark.parametrize("name", ["CoOp", "TextRefinerCoOp"])
def test_step_with_1000_classes_needs_a_quarter_of_the_memory(name, tmp_path):
    # Each runs in a separate process, so that memory of other tests is not counted.
    world = World(tmp_path, TOY, cuda=DEVICE == "cuda")
    naive, fast = (
        child.measure(world, "memory", kind, name, 1000, 4)["bytes"] for kind in ("naive", "fast")
    )
    assert naive > 4 * fast > 0
