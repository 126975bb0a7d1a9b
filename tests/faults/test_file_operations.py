"""A run may be killed, or get an error of the machine, at any file operation that it makes.

The same command then ends with the bits and records of an uninterrupted run. FAULT_POINTS limits
how many operations of each case are tried (default 2; `make faults` tries all).
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.runs import CASES, Place, Server, difference
from tests.faults.server import KILLED
from tests.trainers.toy_runs import ToyWorld

POINTS = int(os.environ.get("FAULT_POINTS", "2"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ToyWorld:
    return ToyWorld(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(scope="module", params=list(CASES))
def case(
    request: pytest.FixtureRequest,
    world: ToyWorld,
    server: Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, list[str], dict[str, Any]]:
    """Return the name of a case, the operations of an uninterrupted run, and what it leaves."""
    place = Place(world, tmp_path_factory.mktemp("whole") / "run", request.param)
    result = server.run(place)
    assert result["code"] == 0, result["output"][-2000:]
    content = place.content()
    assert {"run.json", "result.json", "checkpoint.json"} <= content.keys()
    assert "left over" not in content.values()
    return request.param, result["operations"], content


def chosen(count: int, offset: int) -> list[int]:
    """Return at most POINTS of the operations 1 ... count, spread evenly."""
    step = max(1, count // POINTS)
    return list(range(1 + offset % step, count + 1, step))


def finish(server: Server, place: Place, expected: dict[str, Any], what: str) -> None:
    """Run the command to its end, and compare what it leaves."""
    again = server.run(place)
    assert again["code"] == 0, f"{what}: {again['output'][-1500:]}"
    found = difference(expected, place.content())
    assert not found, f"{what}: {found}"


def test_killed_at_any_file_operation(
    case: tuple[str, list[str], dict[str, Any]], world: ToyWorld, server: Server, tmp_path: Path
) -> None:
    name, operations, expected = case
    for at in chosen(len(operations), offset=1):
        what = f"killed at operation {at} of {len(operations)}, {operations[at - 1]}"
        place = Place(world, tmp_path / f"kill{at}", name)
        assert server.run(place, at=at)["code"] == KILLED, what
        finish(server, place, expected, what)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES], ids=["full disk", "no permission"])
def test_error_at_any_file_operation(
    case: tuple[str, list[str], dict[str, Any]],
    world: ToyWorld,
    server: Server,
    tmp_path: Path,
    error: int,
) -> None:
    name, operations, expected = case
    for at in chosen(len(operations), offset=error):
        what = f"{os.strerror(error)} at operation {at}, {operations[at - 1]}"
        place = Place(world, tmp_path / f"error{at}", name)
        result = server.run(place, at=at, errno=error)
        if result["code"] != 0:  # a run may do without, as with the pickle of few-shot images
            check_sentence(result, what)
        finish(server, place, expected, what)


@pytest.mark.parametrize("size", [0, 1500, 20_000])
def test_error_in_any_write(
    case: tuple[str, list[str], dict[str, Any]],
    world: ToyWorld,
    server: Server,
    tmp_path: Path,
    size: int,
) -> None:
    """Files cannot become larger than ``size`` bytes, as on a full disk."""
    name, _, expected = case
    place = Place(world, tmp_path / "run", name)
    result = server.run(place, file_size=size)
    assert result["code"] != 0
    check_sentence(result, f"files of at most {size} bytes")
    finish(server, place, expected, f"after files of at most {size} bytes")


def check_sentence(result: dict[str, Any], what: str) -> None:
    """Check that a run ended with one sentence and the exit code for errors of the machine."""
    errors = [line for line in result["output"].splitlines() if line.startswith("error: ")]
    assert "Traceback" not in result["output"], f"{what}: {result['output'][-1500:]}"
    assert result["code"] == 74, f"{what}: code {result['code']}, {result['output'][-500:]}"
    assert len(errors) == 1, f"{what}: {errors}"
    assert "'" in errors[0], f"{what}: no path in {errors[0]}"
