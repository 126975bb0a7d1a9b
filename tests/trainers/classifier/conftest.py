"""The trained runs that the tests of this folder share."""

import pytest

from tests.trainers.classifier.runs import Runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Return the runs of this session."""
    return Runs(tmp_path_factory.mktemp("runs"))
