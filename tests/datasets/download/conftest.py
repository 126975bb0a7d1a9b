"""A local server, and no waiting between attempts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from datasets.download import http, unpack
from tests.datasets.download.server import Server, serve


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "WAIT", 0.0)
    monkeypatch.setattr(unpack, "RESERVE", 0)
