"""Toy runs of every refined method, trained once for these tests."""

import pytest

from tests.trainers.classifier.runs import Runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Return the runs of this session."""
    return Runs(tmp_path_factory.mktemp("probed"))
