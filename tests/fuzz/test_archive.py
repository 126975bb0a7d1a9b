"""Mutated archives: unpacking raises its own errors only, and writes into its folder only."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from datasets.download.errors import FetchError, SourceError
from datasets.download.unpack import unpack
from tests.datasets.download.archives import tar_gz, zipped
from tests.fuzz.harness import fuzz

FILES = [("dtd/images/banded/1.jpg", bytes(range(256)) * 2), ("dtd/labels.txt", b"banded\n" * 20)]


def test_archive(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()

    def read(path: Path) -> None:
        out = inside / "deep" / "out"
        shutil.rmtree(inside / "deep", ignore_errors=True)
        unpack(path, out)

    seeds = [tar_gz(FILES), gzip.decompress(tar_gz(FILES)), zipped(FILES)]
    print(fuzz(read, seeds, tmp_path, "archive", (SourceError, FetchError)))
    assert {path.name for path in tmp_path.iterdir()} == {"inside", "archive"}
    assert {path.name for path in inside.iterdir()} <= {"deep"}
